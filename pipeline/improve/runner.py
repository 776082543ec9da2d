"""Runs the steps of rounds, each as a run of another job, and reads what they left.

Figures come from committed rows and not from the run, so a resumed round has the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.counterfactuals.job import counterfactuals
from pipeline.distill.config import DistillConfig
from pipeline.distill.job import distill
from pipeline.errors import RunError
from pipeline.generate.config import GenerateConfig
from pipeline.generate.job import generate
from pipeline.generate.plan import plan as generate_plan
from pipeline.improve.evaluation import COLUMNS, Evaluation
from pipeline.run.plan import RunOutcome, Watcher, open_store
from pipeline.tables import yields
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.job import train_guide
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.train_judge.job import train_judge
from pipeline.training.progress import OnMeasurement

Watch = Callable[[str], AbstractContextManager[Watcher]]


@dataclass(frozen=True, kw_only=True)
class Observer:
    """Who follows the rounds: `watch(name)` is the watcher of the run called `name`; the others are
    called with the measurements of models in training."""

    watch: Watch
    on_guide: OnMeasurement
    on_student: OnMeasurement
    on_judge: OnMeasurement


class Runner:
    """Runs steps. Raises what their jobs raise, and RunError where a step has given up or has no
    rows for the next one."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def generate(self, settings: GenerateConfig) -> None:
        """Make the rows of a run of `nabla generate`."""
        with self._observer.watch(settings.run_dir) as watcher:
            _require_rows(generate(settings, watcher), settings.run_dir)

    def evaluate(self, settings: GenerateConfig) -> Evaluation:
        """Make rows, and measure them."""
        self.generate(settings)
        return Evaluation.of(_rows(settings, COLUMNS))

    def attempted(self, settings: GenerateConfig) -> yields.Attempted | None:
        """What rows that were made gave; None where no answer is graded."""
        return yields.attempted(_rows(settings, yields.COLUMNS))

    def wrong(self, settings: GenerateConfig, column: str) -> set[str] | None:
        """The ids of prompts where `column` says that the answer is wrong; None where it says
        nothing of any."""
        ids: set[str] = set()
        graded = False
        for table in _rows(settings, ("prompt_id", column)):
            for row in table.to_pylist():
                graded = graded or row[column] is not None
                if row[column] is False:
                    ids.add(row["prompt_id"])
        return ids if graded else None

    def explore(self, settings: CounterfactualsConfig) -> None:
        """Make counterfactuals."""
        with self._observer.watch(settings.run_dir) as watcher:
            _require_rows(counterfactuals(settings, watcher), settings.run_dir)

    def train(self, settings: TrainGuideConfig) -> Mapping[str, Any]:
        """Train a guide; its card."""
        with self._observer.watch(settings.run_dir):
            return train_guide(settings, self._observer.on_guide).card

    def distill(self, settings: DistillConfig) -> Mapping[str, Any]:
        """Train an LM; its card."""
        with self._observer.watch(settings.run_dir):
            return distill(settings, self._observer.on_student, lambda progress: None).card

    def train_judge(self, settings: TrainJudgeConfig) -> None:
        """Train a judge."""
        with self._observer.watch(settings.run_dir):
            train_judge(settings, self._observer.on_judge)


def _rows(settings: GenerateConfig, columns: Sequence[str]) -> Sequence[pa.Table]:
    return list(open_store(generate_plan(settings)).rows(tuple(columns)))


def _require_rows(outcome: RunOutcome, run_dir: str) -> None:
    if outcome.aborted or not outcome.finished:
        raise RunError(
            f"{run_dir}: too many dead letters to continue; `nabla status {run_dir}` counts them"
        )
