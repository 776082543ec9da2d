"""Everything that a training worker holds between steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

import torch

from nabla_core.guide_training.cost import GuideCost
from nabla_core.guide_training.examples import Example, Record
from nabla_core.guide_training.trainees import Trainee
from nabla_core.models.loading import LanguageModel
from nabla_core.models.readers import Reader
from nabla_core.types import Identity
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.data import Mixture
from pipeline.training.cost import Meter


@dataclass(kw_only=True)
class TrainingState:
    """Models, data and optimiser of a training, and its progress.

    - `train` and `held_out` are examples as the guide reads them; `held_out_records` are the
      records behind `held_out`, for a guide that reads them in another way.
    - `start` and `teacher` identify the models that the guide started from and learned from.
    - `counterfactuals` is the number of alternatives that were scored and trained on; with a
      teacher, those that the teacher itself learned from.
    - `validation_overlap` is the number of validation prompts that are also trained on.
    - `cost` tells what a step costs, and `meter` adds it up.
    - `history` has one dict for each measurement; `skipped` has one line for each step that was
      left out because its gradient was not finite.
    """

    config: TrainGuideConfig
    lm: LanguageModel
    judge: Reader
    trainee: Trainee
    tokenizer: Any
    optimizer: torch.optim.Optimizer
    train: list[Example]
    held_out: list[Example]
    held_out_records: list[Record]
    mixture: Mixture
    start: Identity
    teacher: Identity | None
    counterfactuals: int
    validation_overlap: int
    cost: GuideCost
    meter: Meter
    step: int = 0
    skipped: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def models(self) -> dict[str, Identity]:
        """The models that shape the guide, by role."""
        found = {
            "start": self.start,
            "lm": self.lm.identity,
            "judge": self.judge.rm.identity,
        }
        return found if self.teacher is None else {**found, "teacher": self.teacher}

    @cached_property
    def provenance(self) -> dict[str, str]:
        """Digests of all models and data that shape the guide, by the setting that names them.

        A checkpoint is loaded only where they are the same. They are computed once per run,
        because no step changes them.
        """
        config = self.config
        return {
            f"start.path {self.start.name}": self.start.revision,
            f"lm.path {config.lm.path}": self.lm.identity.revision,
            f"reward.judge {config.reward.judge}": self.judge.rm.identity.revision,
            f"teacher.path {config.teacher.path}": self.teacher.revision if self.teacher else "",
            "data": _digest(self.mixture.records),
        }


def _digest(records: Sequence[Record]) -> str:
    digest = blake2b(digest_size=8)
    for record in records:
        # repr writes a float with all its digits, so only equal records have equal digests.
        digest.update(repr((record.name, record.tokens, record.score, record.places)).encode())
    return digest.hexdigest()
