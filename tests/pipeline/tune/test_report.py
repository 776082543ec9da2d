from types import SimpleNamespace

import pyarrow as pa
import pytest

from nabla_core.config import Decoding, NablaConfig
from pipeline.errors import RunError
from pipeline.tune.candidates import candidates
from pipeline.tune.config import Grid
from pipeline.tune.report import choose

NULL, GUIDED = range(2)
TRIED = candidates(
    Decoding(nabla=NablaConfig(proposals="ranked")),
    Grid(beta=(1.0,), min_score=(-3.0,), reward_weight=(0.0,)),
)


def row(prompt, sample, *, reward=0.0, correct=None, calls=1.0, error=None):
    return {
        "prompt_id": prompt,
        "sample": sample,
        "reward": reward,
        "correct": correct,
        "cost": {"paper_calls": calls, "flops": 10 * calls},
        "error": error,
    }


def compare(*rows):
    """`choose` over a store that holds these rows."""
    tables = [pa.Table.from_pylist(list(rows))] if rows else []
    store = SimpleNamespace(rows=lambda columns: tables, folder=SimpleNamespace(uri="run"))
    return choose(store, TRIED)


def test_a_gradient_pays_where_the_interval_of_the_paired_difference_is_above_zero():
    rows = [row(f"p{n}", NULL, reward=n) for n in range(8)]
    rows += [row(f"p{n}", GUIDED, reward=n + 1 + n / 100, calls=3.0) for n in range(8)]
    choice = compare(*rows)
    assert choice.measure == "reward"
    assert choice.guide_helps
    assert choice.chosen is choice.best
    assert choice.chosen.candidate is TRIED[GUIDED]
    assert choice.difference == pytest.approx(1.035)
    assert (choice.best.calls, choice.best.flops) == (3.0, 30.0)


def test_a_better_mean_within_its_interval_does_not_pay():
    rows = [row(f"p{n}", NULL, reward=0.0) for n in range(8)]
    rows += [row(f"p{n}", GUIDED, reward=9.0 if n == 0 else -1.0) for n in range(8)]
    choice = compare(*rows)
    assert choice.difference == pytest.approx(0.25)
    assert not choice.guide_helps
    assert choice.chosen.candidate is TRIED[NULL]


def test_accuracy_is_compared_where_all_answers_are_graded():
    rows = [row("a", NULL, correct=True, reward=-5.0), row("a", GUIDED, correct=False, reward=5.0)]
    choice = compare(*rows)
    assert choice.measure == "accuracy"
    assert choice.best.candidate is TRIED[NULL]
    assert compare(*rows, row("b", NULL, reward=0.0)).measure == "reward"


def test_of_equal_candidates_the_one_with_fewer_calls_is_best():
    choice = compare(row("a", NULL, calls=2.0), row("a", GUIDED, calls=1.0))
    assert choice.best.candidate is TRIED[GUIDED]


def test_only_prompts_that_both_finished_are_compared():
    choice = compare(
        row("a", NULL, reward=1.0),
        row("b", NULL, reward=-50.0),
        row("a", GUIDED, reward=2.0),
        row("b", GUIDED, error="E: bad"),
    )
    assert choice.difference == 1.0


@pytest.mark.parametrize(
    "rows", [(), (row("a", GUIDED),), (row("a", NULL), row("b", GUIDED, reward=1.0))]
)
def test_nothing_to_compare_is_an_error(rows):
    with pytest.raises(RunError, match="nothing to compare, too many dead letters"):
        compare(*rows)
