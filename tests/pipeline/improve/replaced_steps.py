"""The loop of rounds with steps that are replaced, since no real search hacks its reward on demand.
The same loop with real steps on Ray: tests/jobs/test_improve.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config import load
from pipeline.improve import job, runner
from pipeline.improve.config import ImproveConfig
from pipeline.improve.job import ImproveResult, improve
from pipeline.improve.runner import Observer
from pipeline.run.plan import RunOutcome

DONE = RunOutcome(finished=4, dead=0, total=4, totals={})
HELPS = (9.0, 1.0)
ALONE = (0.0, 0.5)


class Steps:
    """Pretends the steps of rounds, on four prompts.

    `results` are (reward, correct) of all prompts by the end of a run folder's name; the LM alone
    is at `ALONE`, the search with judge and guide at `HELPS` where it is not told.
    """

    def __init__(self, results: Mapping[str, tuple[float, float]]) -> None:
        self.results = results
        self.ran: list[tuple[str, str, str | None]] = []
        self.settings: dict[str, Any] = {}
        self.outcome = DONE

    def run(self, config: Any, watcher: Any) -> RunOutcome:
        self._note(config, config.lm.path, config.reward.guide)
        return self.outcome

    def train(self, config: Any, on_measurement: Any) -> Any:
        self._note(config, config.lm.path, config.start.path)
        card = {"metrics": {"top1": 0.5}, "judge_gradient": {"top1": 0.1}}
        return SimpleNamespace(card=card | {"data": {"counterfactuals": 7}})

    def distill(self, config: Any, on_measurement: Any, on_progress: Any) -> Any:
        self._note(config, config.student.path, None)
        return SimpleNamespace(card={"data": {"rows": 3}})

    def judge(self, config: Any, on_measurement: Any) -> None:
        self._note(config, config.lm.path, config.reward.judge)
        self.judged = config

    def rows(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        run_dir = self._reading.run_dir
        name = "/".join(run_dir.split("/")[-2:])
        default = ALONE if "greedy" in name else HELPS
        reward, correct = self.results.get(name, default)
        cost = {"paper_calls": 17 if "greedy" in name else 55, "flops": 8e6}
        if name.endswith("samples"):
            cost["flops"] = 1e6
        row = {"reward": reward, "error": None, "cost": cost}
        yield pa.Table.from_pylist(
            [
                # Of a share that is correct, the first prompts are; the first search is half right.
                {"prompt_id": f"p{n}", "correct": n < 4 * correct, "base_correct": n < 2, **row}
                for n in range(4)
                for _ in range(self._reading.samples_per_prompt)
            ]
        )

    def open(self, config: Any) -> Steps:
        self._reading = config
        return self

    def _note(self, config: Any, lm: str, guide: str | None) -> None:
        self.ran.append((config.run_dir, lm, guide))
        self.settings[config.run_dir] = config


def run_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps, *overrides: str
) -> ImproveResult:
    monkeypatch.setattr(runner, "generate", steps.run)
    monkeypatch.setattr(runner, "counterfactuals", steps.run)
    monkeypatch.setattr(runner, "train_guide", steps.train)
    monkeypatch.setattr(runner, "distill", steps.distill)
    monkeypatch.setattr(runner, "train_judge", steps.judge)
    monkeypatch.setattr(runner, "generate_plan", lambda config: config)
    monkeypatch.setattr(runner, "open_store", steps.open)
    monkeypatch.setattr(job, "shared", lambda *_: nullcontext())
    sizes = ("prompts.limit=5", "eval_prompts.limit=4", "training.validation.prompts.limit=4")
    given = (f"run_dir={tmp_path / 'run'}", "rounds=2", *sizes, *overrides)
    config = load(ImproveConfig, (), given)
    return improve(
        config,
        Observer(
            watch=lambda name: nullcontext(),
            on_guide=lambda m: None,
            on_student=lambda m: None,
            on_judge=lambda m: None,
        ),
    )


def short(steps: Steps, tmp_path: Path) -> list[tuple[str, str, str | None]]:
    """What ran, with paths below the run folder."""

    def name(path: str | None) -> str | None:
        return None if path is None else path.removeprefix(f"{tmp_path / 'run'}/")

    return [(name(run_dir) or "", name(lm) or "", name(guide)) for run_dir, lm, guide in steps.ran]


FIRST, SECOND = "round-1/guide/guide", "round-2/guide/guide"
# The steps of rounds, as overrides.
ALL = ("steps=[search,samples,distill,counterfactuals,guide]", "answers=final")
JUDGED = ("steps=[search,samples,distill,judge,counterfactuals,guide]", "answers=final")
