"""How a run ended, as a table and as an exit code."""

import pytest
from rich.console import Console
from rich.table import Table

from jobs.display import summary
from jobs.exit_codes import ExitCode
from pipeline.run.plan import RunOutcome

TRACES = {
    "dead_by_error": {"WorkerDied": 2, "ValueError": 1},
    "means": {"base_reward": 1.0, "reward": 1.5, "base_correct": None, "correct": None},
    "proposals": {"made": 8, "accepted": 2},
    "revised": 2,
    "cost": {"generated_tokens": 12345, "seconds": 1.25},
}
COUNTERFACTUALS = {
    "dead_by_error": {},
    "places": 1200,
    "mean_score": 0.5,
    "better": 0.25,
    "alternatives": 14400,
    "cost": {"seconds": 2.0},
}


def outcome(total: int, finished: int, dead: int, totals: dict, **more: object) -> RunOutcome:
    return RunOutcome(total=total, finished=finished, dead=dead, totals=totals, **more)


def shown(table: Table) -> list[str]:
    """The cells of each row with single spaces."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    lines = (line.strip("│ ").replace("│", " ") for line in captured.get().splitlines())
    return [" ".join(line.split()) for line in lines if line and line[0] not in "┌└├"]


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (outcome(3, 3, 0, {}), ExitCode.DONE),
        (outcome(3, 3, 0, {}, already_complete=True), ExitCode.DONE),
        (outcome(3, 2, 1, {}), ExitCode.INCOMPLETE),
        (outcome(300, 0, 0, {}, aborted=True), ExitCode.INCOMPLETE),
        (outcome(300, 9, 1, {}, budget="budget.rows=10"), ExitCode.BUDGET),
    ],
)
def test_dead_letters_make_a_run_incomplete(ended, code):
    assert summary.exit_code(ended) is code


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (outcome(3, 2, 1, {}), ExitCode.DONE),
        (outcome(300, 0, 20, {}, aborted=True), ExitCode.INCOMPLETE),
        (outcome(300, 9, 1, {}, budget="budget.rows=10"), ExitCode.BUDGET),
    ],
)
def test_where_dead_letters_are_expected_only_missing_rows_make_a_run_incomplete(ended, code):
    assert summary.exit_code(ended, ok_with_dead=True) is code


def test_a_run_of_traces_shows_what_changed_and_what_was_graded():
    table = summary.traces_table(outcome(67, 64, 3, TRACES))
    assert shown(table) == [
        "rows 64 of 67",
        "dead letters 3 (2 WorkerDied, 1 ValueError)",
        "mean reward 1.0000 -> 1.5000 (+0.5000)",
        "revisions 2 of 8 accepted (25%)",
        "rows revised 2",
        "generated tokens 12,345",
        "engine seconds 1.2",
    ]


def test_a_run_with_answers_shows_its_yield():
    found = {
        "prompts": 4000, "right": 0.75, "hard": 1200, "right_on_hard": 0.5,
        "right_per_gflop": 21.5, "pass_at": {"1": 0.5, "2": 0.625},
    }  # fmt: skip
    rows = shown(summary.traces_table(outcome(67, 64, 0, TRACES | {"yield": found})))
    assert rows[-5:-2] == [
        "prompts solved 0.7500 of 4,000, 21.50 for 1 GFLOP",
        "of greedily wrong ones 0.5000 of 1,200",
        "pass@k 0.5000 at 1, 0.6250 at 2",
    ]
    large = summary.traces_table(
        outcome(67, 64, 0, TRACES | {"yield": found | {"right_per_gflop": 0.0043}})
    )
    assert shown(large)[-5] == "prompts solved 0.7500 of 4,000, 4.30 for 1 TFLOP"
    alone = found | {"hard": None, "right_on_hard": None, "right_per_gflop": None, "pass_at": {}}
    rows = shown(summary.traces_table(outcome(67, 64, 0, TRACES | {"yield": alone})))
    assert rows[-3] == "prompts solved 0.7500 of 4,000"
    assert len(rows) == 7
    none = summary.traces_table(outcome(67, 64, 0, TRACES | {"yield": None}))
    assert len(shown(none)) == 6


def test_a_run_of_counterfactuals_shows_where_another_token_was_better():
    table = summary.counterfactuals_table(outcome(300, 300, 0, COUNTERFACTUALS))
    assert shown(table)[:3] == [
        "responses 300 of 300",
        "mean score 0.5000",
        "positions 1,200, at 25% another token was better",
    ]


def test_a_line_says_how_the_run_ended(capsys):
    done = outcome(1, 1, 0, {})
    summary.print_outcome("runs/a", done, summary.counts_table(done))
    assert capsys.readouterr().out.splitlines()[0] == "runs/a: done"
    complete = outcome(1, 1, 0, {}, already_complete=True)
    assert summary.headline("runs/a", complete) == "runs/a: was already done"
    aborted = outcome(1, 0, 0, {}, aborted=True)
    assert "ended early, too many dead letters" in summary.headline("runs/a", aborted)


def test_a_method_without_a_first_response_shows_no_change():
    means = {"base_reward": 1.5, "reward": 1.5, "base_correct": 0.5, "correct": 0.5}
    totals = {**TRACES, "means": means, "proposals": {"made": 0, "accepted": 0}}
    found = shown(summary.traces_table(outcome(3, 3, 0, totals)))
    assert "mean reward 1.5000" in found
    assert "accuracy 0.5000" in found
