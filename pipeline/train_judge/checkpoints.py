"""A checkpoint of a judge is measured as it would be delivered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.train_judge.report import summary
from pipeline.training.folder import MODEL, SELECTION
from pipeline.training.trainer import History, TrainerCheckpoints

# Writes the judge of a checkpoint into a folder; returns its factor and its figures.
Deliver = Callable[[Path, Path], tuple[float, dict[str, Any]]]


class Checkpoints(TrainerCheckpoints):
    """Checkpoints of a judge."""

    def __init__(
        self,
        config: TrainJudgeConfig,
        output: Path,
        history: History,
        provenance: Mapping[str, str],
        deliver: Deliver,
        *,
        rank: int,
    ) -> None:
        super().__init__(
            config.run_dir,
            config.validation.every,
            output,
            history,
            provenance,
            job="judge",
            held_out=True,
            rank=rank,
        )
        self._metric = config.validation.metric
        self._deliver = deliver

    def measure(self, checkpoint: Path, step: int) -> dict[str, Any]:
        factor, figures = self._deliver(checkpoint, checkpoint / MODEL)
        metrics = {
            "step": step,
            "loss": self._train_loss,
            "held_out_loss": self._held_out_loss,
            **summary(figures),
            "scale": factor,
            "report": figures,
        }
        score = metrics["held_out_loss" if self._metric == "loss" else self._metric]
        if score is None:
            raise RunError(
                f"validation.metric={self._metric} cannot be measured: the validation prompts, or "
                "the held-out answers, have no graded right and wrong answers"
            )
        # Ray Train keeps the checkpoint with the highest score.
        return metrics | {SELECTION: -score if self._metric == "loss" else score}
