"""Settings of `jobs.train_guide`. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nabla_core.config import NablaConfig, Ranked, Sampling
from nabla_core.config_metadata import NOT_SHAPING, SHAPING_THROUGHOUT
from nabla_core.guide_training.settings import Kind, Optimise, Target
from nabla_core.model_config import LM, Reward
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts
from pipeline.train_guide.data_config import Data


@dataclass(frozen=True)
class Start:
    """What the guide starts as: "judge", "lm", or a folder or hub id of another model."""

    path: str = "judge"
    revision: str | None = None


@dataclass(frozen=True)
class Teacher:
    """A head (`kind: head`, trained on the same data) whose predictions of the LM's
    `alternatives` likeliest tokens stand for scores at every position of the responses trained
    on; what is held out keeps its own. A gradient hardly turns on the few positions that were
    explored, and does on all of them. Without `path`: no teacher."""

    path: str | None = None
    revision: str | None = None
    alternatives: int = 12

    def __post_init__(self) -> None:
        if self.alternatives < 2:
            raise ValueError(f"teacher.alternatives must be at least 2, got {self.alternatives}")


def ranked_search() -> NablaConfig:
    """The search that guides of either kind are for, where a config says nothing of it."""
    return NablaConfig(proposals="ranked", ranked=Ranked(beta=1.0), rollout=Sampling(temperature=0))


@dataclass(frozen=True)
class Validation:
    """The search that checkpoints are chosen by, on prompts that are neither trained on nor
    reported.

    `metric`: answers right by `verify`, or the judge's mean reward where there are none (or
    where nothing may owe anything to answers). Every `every` steps.
    """

    prompts: Prompts = field(default_factory=lambda: Prompts(split="validation", limit=200))
    # The time that a grader may take can decide which checkpoint is chosen.
    verify: Verify = field(default_factory=Verify, metadata=SHAPING_THROUGHOUT)
    nabla: NablaConfig = field(default_factory=ranked_search)
    max_tokens: int = 1024
    metric: Literal["accuracy", "reward"] = "reward"
    every: int = 250
    max_batch: int = 64
    held_out: int = 500

    def __post_init__(self) -> None:
        for name in ("max_tokens", "every", "max_batch", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"validation.{name} must be at least 1")
        if self.metric == "accuracy" and self.verify.method == "none":
            raise ValueError("validation.metric=accuracy needs a validation.verify.method")


@dataclass(frozen=True)
class Workers:
    """How many processes train, and where.

    `address` is the Ray cluster to join, as in `cluster.address`. After a worker died, training
    continues from its last checkpoint, at most `max_failures` times (-1: without limit). It ends
    where a cluster cannot place the workers within `scheduling_timeout_s` seconds. Another
    driver may take over the run folder once this one has been silent for `lease_seconds`.
    """

    count: int = 1
    address: str | None = None
    cpus: float = 1.0
    gpu: bool = False
    max_failures: int = 2
    scheduling_timeout_s: float = 1800.0
    lease_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"workers.count must be at least 1, got {self.count}")
        if self.max_failures < -1:
            raise ValueError(f"workers.max_failures must be at least -1, got {self.max_failures}")
        for name in ("cpus", "scheduling_timeout_s", "lease_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"workers.{name} must be above 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class TrainGuideConfig:
    """One run of `jobs.train_guide`. The guide lands in `<run_dir>/guide`."""

    data: Data
    run_dir: str = field(default="runs/guide", metadata=NOT_SHAPING)
    kind: Kind = "head"
    seed: int = 0
    start: Start = field(default_factory=Start)
    teacher: Teacher = field(default_factory=Teacher)
    lm: LM = field(default_factory=LM)
    reward: Reward = field(default_factory=Reward)
    target: Target = field(default_factory=Target)
    optimise: Optimise = field(default_factory=Optimise)
    validation: Validation = field(default_factory=Validation)
    # But for rounding, the number of workers changes no weight.
    workers: Workers = field(default_factory=Workers, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        if self.reward.guide is not None:
            raise ValueError("reward.guide is what is trained; start.path says from what")
        if self.target.mirror and self.data.traces and self.teacher.path is None:
            raise ValueError(
                "target.mirror needs the LM's probabilities, which traces do not hold: leave "
                "data.traces out or name a teacher.path"
            )
        target = self.target
        if self.kind == "head" and not any(
            (target.within, target.across, target.scale, target.mirror)
        ):
            raise ValueError("target.score is of a guide's own reward, and a head has none")
        searchable(self.kind, self.validation.nabla, "validation.nabla")


def searchable(kind: Kind, config: NablaConfig, name: str) -> None:
    """Raises ValueError where a guide of this kind cannot be searched with."""
    if kind == "head" and config.needs_gradient:
        raise ValueError(
            f"{name}: a head has no gradient for dto.optimizer={config.dto.optimizer}; use "
            "proposals=ranked or dto.optimizer=mirror"
        )
