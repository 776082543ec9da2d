"""The loop of rounds: what each step runs with, and when the rounds end.

The steps are replaced, because no real search can be steered to hack its reward. The same loop with
real steps on Ray: tests/jobs/test_improve.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import yaml

from pipeline.config import load
from pipeline.errors import RunError
from pipeline.improve import job
from pipeline.improve.config import ImproveConfig
from pipeline.improve.job import ImproveResult, improve
from pipeline.run.plan import RunOutcome

DONE = RunOutcome(finished=4, dead=0, total=4, totals={})


class Steps:
    """Pretends the steps of rounds. Round n is evaluated at the n-th of `rewards` and `correct`,
    the same for each of four prompts."""

    def __init__(self, rewards: Sequence[float], correct: Sequence[float]) -> None:
        self.rewards, self.correct = rewards, correct
        self.ran: list[tuple[str, str | None]] = []
        self.outcome = DONE

    def run(self, config: Any, watcher: Any) -> RunOutcome:
        self.ran.append((config.run_dir, config.reward.guide))
        return self.outcome

    def train(self, config: Any, on_measurement: Any) -> Any:
        self.ran.append((config.run_dir, config.start.path))
        card = {"metrics": {"top1": 0.5}, "judge_gradient": {"top1": 0.1}}
        return SimpleNamespace(card=card | {"data": {"counterfactuals": 7}})

    def rows(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        number = sum(run_dir.endswith("/eval") for run_dir, _ in self.ran) - 1
        row = {"reward": self.rewards[number], "correct": self.correct[number], "error": None}
        cost = {"paper_calls": 10 - number}
        yield pa.Table.from_pylist([{"prompt_id": f"p{n}", "cost": cost, **row} for n in range(4)])


def run_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps) -> ImproveResult:
    monkeypatch.setattr(job, "generate", steps.run)
    monkeypatch.setattr(job, "counterfactuals", steps.run)
    monkeypatch.setattr(job, "train_guide", steps.train)
    monkeypatch.setattr(job, "generate_plan", lambda config: config)
    monkeypatch.setattr(job, "open_store", lambda plan: steps)
    monkeypatch.setattr(job, "shared", lambda *_: nullcontext())
    sizes = ("prompts.limit=5", "eval_prompts.limit=4", "training.validation.prompts.limit=4")
    overrides = (f"run_dir={tmp_path / 'run'}", "rounds=2", *sizes)
    config = load(ImproveConfig, (), overrides)
    return improve(config, lambda name: nullcontext(), lambda measurement: None)


def test_each_round_goes_on_with_the_guide_of_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = Steps([1.0, 2.0, 3.0], [0.0, 1.0, 1.0])
    improved = run_rounds(tmp_path, monkeypatch, steps)
    run = str(tmp_path / "run")
    first, second = f"{run}/round-1/guide/guide", f"{run}/round-2/guide/guide"
    assert steps.ran == [
        (f"{run}/round-0/eval", None),
        (f"{run}/round-1/traces", None),
        (f"{run}/round-1/counterfactuals", None),
        (f"{run}/round-1/guide", "judge"),
        (f"{run}/round-1/eval", first),
        (f"{run}/round-2/traces", first),
        (f"{run}/round-2/counterfactuals", first),
        (f"{run}/round-2/guide", first),
        (f"{run}/round-2/eval", second),
    ]
    assert improved.stop_reason == "completed"
    assert [r.top1 for r in improved.rounds] == [0.1, 0.5, 0.5]
    # Both rounds are equally accurate; the second one needs fewer calls.
    assert improved.chosen.number == 2
    figures = json.loads((tmp_path / "run" / "rounds.json").read_text())
    assert figures["chosen"] == 2
    assert figures["rounds"][1]["accuracy_gain"] == [1.0, 1.0, 1.0]
    chosen = yaml.safe_load((tmp_path / "run" / "chosen.yaml").read_text())
    assert chosen == {"reward": {"guide": second}}


def test_rounds_end_where_the_reward_is_hacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    improved = run_rounds(tmp_path, monkeypatch, Steps([1.0, 2.0], [1.0, 0.0]))
    assert improved.stop_reason == "reward_hacked"
    assert [r.reward_hacked for r in improved.rounds] == [False, True]
    assert improved.chosen.number == 0
    chosen = yaml.safe_load((tmp_path / "run" / "chosen.yaml").read_text())
    assert chosen == {"reward": {"guide": None}}


def test_a_step_without_rows_ends_the_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps = Steps([1.0], [1.0])
    steps.outcome = RunOutcome(finished=0, dead=4, total=4, totals={})
    with pytest.raises(RunError, match=r"round-0/eval: too many dead letters to continue"):
        run_rounds(tmp_path, monkeypatch, steps)
