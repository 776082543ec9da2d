"""Settings of `jobs.train_guide`. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nabla_core.config import NablaConfig, Ranked, Sampling, check
from nabla_core.config_metadata import NOT_SHAPING, SHAPING_THROUGHOUT
from nabla_core.guide_training.settings import Kind, Optimise, Target
from nabla_core.model_config import LM, Reward
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts


@dataclass(frozen=True)
class Data:
    """The training data.

    `counterfactuals` and `traces` are finished run folders of `jobs.counterfactuals` and
    `jobs.generate`; the first `limit` rows of each are read. A share `held_out` of the prompts,
    chosen by a hash of their ids, is not trained on. Alternatives with a log-probability under
    the LM below `min_log_probability` are dropped; traces store none, so there it applies only
    to the alternatives that a teacher adds. Verdicts of a verifier (0 or 1) are moved by
    `label_smoothing` towards 1/2, then turned into log-odds.
    """

    counterfactuals: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    limit: int | None = None
    held_out: float = 0.1
    min_log_probability: float | None = None
    label_smoothing: float = 0.05

    def __post_init__(self) -> None:
        check(
            bool(self.counterfactuals or self.traces),
            "data: name at least one folder in counterfactuals or traces",
        )
        check(
            self.limit is None or self.limit >= 1,
            f"data.limit must be at least 1, got {self.limit}",
        )
        share, smoothing = self.held_out, self.label_smoothing
        check(0 < share < 1, f"data.held_out must be above 0 and below 1, got {share}")
        check(
            0 < smoothing < 0.5,
            f"data.label_smoothing must be above 0 and below 0.5, got {smoothing}",
        )

    @property
    def log_probability_floor(self) -> float:
        """`min_log_probability`, -inf where there is none."""
        floor = self.min_log_probability
        return float("-inf") if floor is None else floor


@dataclass(frozen=True)
class Start:
    """The model that the guide starts from: "judge", "lm", or a folder or hub id."""

    path: str = "judge"
    revision: str | None = None


@dataclass(frozen=True)
class Teacher:
    """A head (`kind: head`) that labels every position for a gradient guide.

    Its predictions for the LM's `alternatives` likeliest tokens replace the scores of the
    training responses; held-out responses keep theirs. Without `path` there is no teacher.
    """

    path: str | None = None
    revision: str | None = None
    alternatives: int = 12

    def __post_init__(self) -> None:
        count = self.alternatives
        check(count >= 2, f"teacher.alternatives must be at least 2, got {count}")


def ranked_search() -> NablaConfig:
    """The default search of a guide of either kind."""
    return NablaConfig(proposals="ranked", ranked=Ranked(beta=1.0), rollout=Sampling(temperature=0))


@dataclass(frozen=True)
class Validation:
    """The search that selects the checkpoint, every `every` steps and after the last.

    `prompts` must be disjoint from those that are trained on and those that are reported.
    `metric` is the accuracy of the answers as `verify` grades them, or the judge's mean reward,
    where prompts have no answers or where the guide must not depend on answers. A search is
    `nabla` with responses of at most `max_tokens` and `max_batch` responses in a forward pass.
    Agreement with held-out scores is measured on at most `held_out` responses.
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
            value = getattr(self, name)
            check(value >= 1, f"validation.{name} must be at least 1, got {value}")
        check(
            self.metric != "accuracy" or self.verify.method != "none",
            "validation.metric=accuracy needs a validation.verify.method",
        )


@dataclass(frozen=True)
class Workers:
    """The training processes.

    `count` workers, each with `cpus` CPUs and with `gpu` one GPU, on the Ray cluster at
    `address` (as in `cluster.address`). After a worker died, training continues from its last
    checkpoint, at most `max_failures` times (-1: without limit). It ends where a cluster cannot
    place the workers within `scheduling_timeout_s` seconds. Another driver may take over the run
    folder after this one has been silent for `lease_seconds`.
    """

    count: int = 1
    address: str | None = None
    cpus: float = 1.0
    gpu: bool = False
    max_failures: int = 2
    scheduling_timeout_s: float = 1800.0
    lease_seconds: float = 30.0

    def __post_init__(self) -> None:
        check(self.count >= 1, f"workers.count must be at least 1, got {self.count}")
        failures = self.max_failures
        check(failures >= -1, f"workers.max_failures must be at least -1, got {failures}")
        for name in ("cpus", "scheduling_timeout_s", "lease_seconds"):
            value = getattr(self, name)
            check(value > 0, f"workers.{name} must be above 0, got {value}")


@dataclass(frozen=True)
class TrainGuideConfig:
    """One run of `jobs.train_guide`, which writes the guide to `<run_dir>/guide`.

    `kind` is a reward model whose gradient is trained, or a head that predicts advantages.
    `reward.judge` is the reward model that scored the data.
    """

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
    # The number of workers changes weights by rounding errors alone.
    workers: Workers = field(default_factory=Workers, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        check(
            self.reward.guide is None,
            "reward.guide is the result of a training; start.path names the model it starts from",
        )
        check(
            not (self.target.mirror and self.data.traces and self.teacher.path is None),
            "target.mirror needs the LM's probabilities, which traces do not hold: leave "
            "data.traces out or name a teacher.path",
        )
        target = self.target
        without_score = (target.within, target.across, target.scale, target.mirror)
        check(
            self.kind != "head" or any(without_score),
            "target.score is of a guide's own reward, and a head has none",
        )
        check_searchable(self.kind, self.validation.nabla, "validation.nabla")


def check_searchable(kind: Kind, config: NablaConfig, name: str) -> None:
    """Raises ValueError where a search needs a gradient and the guide is a head."""
    check(
        kind != "head" or not config.needs_gradient,
        f"{name}: a head has no gradient for dto.optimizer={config.dto.optimizer}; use "
        "proposals=ranked or dto.optimizer=mirror",
    )
