"""A checkpoint of a student is measured as it would be delivered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.distill.config import DistillConfig
from pipeline.distill.measure import Greedy
from pipeline.errors import RunError
from pipeline.training.folder import MODEL, SELECTION
from pipeline.training.trainer import History, TrainerCheckpoints


class Checkpoints(TrainerCheckpoints):
    """Checkpoints of a student. `deliver` writes the model of a checkpoint into a folder and lets
    it answer."""

    def __init__(
        self,
        config: DistillConfig,
        output: Path,
        history: History,
        provenance: Mapping[str, str],
        deliver: Callable[[Path, Path], Greedy],
        *,
        held_out: bool,
        rank: int,
    ) -> None:
        super().__init__(
            config.run_dir,
            config.validation.every,
            output,
            history,
            provenance,
            job="distill",
            held_out=held_out,
            rank=rank,
        )
        self._config = config
        self._deliver = deliver

    def measure(self, checkpoint: Path, step: int) -> dict[str, Any]:
        greedy = self._deliver(checkpoint, checkpoint / MODEL)
        self.meter.measurements += greedy.flops
        metrics = {
            "step": step,
            "loss": self._train_loss,
            "held_out_loss": self._held_out_loss,
            **asdict(greedy),
        }
        metric = self._config.validation.metric
        score = metrics["held_out_loss" if metric == "loss" else metric]
        if score is None:
            raise RunError("validation.metric=accuracy: no validation prompt has an answer")
        # Ray Train keeps the checkpoint with the highest score.
        return metrics | {SELECTION: -score if metric == "loss" else score}
