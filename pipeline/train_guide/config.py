"""Settings of `jobs.train_guide`. Nothing here imports torch or ray."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from nabla_core.config import NablaConfig, Ranked, Sampling, check
from nabla_core.config_metadata import NOT_SHAPING, REVISION, SHAPING_THROUGHOUT
from nabla_core.guide_training.settings import Kind, Optimise, OutputLayer, Target, ValueHead
from nabla_core.model_config import LM, Reward
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts
from pipeline.training.config import Workers


@dataclass(frozen=True)
class Data:
    """The data of a training. At least one of `counterfactuals` and `traces` must name a folder.

    Attributes:
        counterfactuals: Run folders of `nabla counterfactuals`.
        traces: Run folders of `nabla generate`; their accepted and rejected revisions are the
            examples.
        allow_partial: Also takes run folders that are not complete: their committed rows. The
            guide's card says of which that was so.
        limit (rows): The first rows of each folder, this many; null: all.
        held_out: The fraction of prompts that are held out of training, chosen by their ids.
        min_log_probability (nats): Leaves out alternatives with a lower log-probability under the
            LM; null: none. Traces hold no log-probabilities: there it applies to what a teacher
            adds.
        label_smoothing: Scores of a verifier become log-odds; 0 and 1 are first moved towards 1/2
            by this.
    """

    counterfactuals: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    allow_partial: bool = False
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
    """The model that a guide is initialised with.

    Attributes:
        path: `judge`, `lm`, or a folder or hub id of another model. A value head starts from `lm`,
            on which it is, or from a value head.
        revision: Branch, tag or commit of a hub model.
        output: The output layer of a new head or value head. `zero`: every advantage begins at 0,
            and tokens that were never tried stay there. `lm`: it begins as the output layer of the
            LM, so that such tokens follow those that the LM takes for alike; a head needs the LM's
            hidden size for that.
    """

    path: str = "judge"
    revision: str | None = field(default=None, metadata=REVISION)
    output: OutputLayer = "zero"


@dataclass(frozen=True)
class Teacher:
    """A trained head (`kind: head`) that labels every position for a gradient guide: its
    predictions replace the scores of the training responses; held-out responses keep theirs.

    Attributes:
        path: The folder of the head; null: no teacher.
        revision: Branch, tag or commit of a hub model.
        alternatives (tokens): The LM's most probable tokens of a position that get a predicted
            score.
    """

    path: str | None = None
    revision: str | None = field(default=None, metadata=REVISION)
    alternatives: int = 12

    def __post_init__(self) -> None:
        count = self.alternatives
        check(count >= 2, f"teacher.alternatives must be at least 2, got {count}")


def ranked_search() -> NablaConfig:
    """The default search of a guide of either kind."""
    return NablaConfig(proposals="ranked", ranked=Ranked(beta=1.0), rollout=Sampling(temperature=0))


@dataclass(frozen=True)
class Validation:
    """The search that selects the checkpoint.

    Attributes:
        prompts: The prompts to search on; disjoint from those that are trained on and from those
            that results are reported on.
        verify: How answers are graded.
        nabla: The search.
        max_tokens (tokens): The longest response.
        metric: What a checkpoint is chosen by: the `accuracy` of answers, or the judge's mean
            `reward`, which needs no answers.
        every (steps): A checkpoint is made and measured every so many steps, and after the last
            step.
        max_batch (sequences): Sequences in a batch of the search, at most.
        held_out (responses): Responses that are held out of training and that predictions are
            measured on, at most.
        kl (nats per token): The suggested beta is that at which p exp(A / beta) diverges from the
            LM's law p by this, on held-out responses. Divergence has no unit of the judge, so one
            value suits all judges.
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
    kl: float = 0.1

    def __post_init__(self) -> None:
        check(0 < self.kl < math.inf, f"validation.kl must be above 0 and finite, got {self.kl}")
        for name in ("max_tokens", "every", "max_batch", "held_out"):
            value = getattr(self, name)
            check(value >= 1, f"validation.{name} must be at least 1, got {value}")
        check(
            self.metric != "accuracy" or self.verify.method != "none",
            "validation.metric=accuracy needs a validation.verify.method",
        )


@dataclass(frozen=True)
class TrainGuideConfig:
    """The settings of `nabla train-guide`. The guide is written to `<run_dir>/guide`.

    Attributes:
        data: What the guide is trained on.
        run_dir: The run folder: a path or any URI that pyarrow or fsspec opens.
        kind: `gradient`: a reward model whose gradient guides. `head`: a model that predicts the
            advantages of all tokens. `value_head`: a small network on the LM that predicts them
            from the LM's last hidden state; only the network is trained.
        seed: Seed of the order of examples and of new weights.
        start: The model that the guide is initialised with.
        value_head: The network of a value head.
        teacher: A head that provides scores where nothing was explored.
        lm: The language model of the data and of the search that validates.
        reward: The judge. `reward.guide` must be null: it is what is trained.
        target: The loss.
        optimise: The optimiser.
        validation: How checkpoints are measured and chosen.
        workers: The processes that train.
    """

    data: Data
    run_dir: str = field(default="runs/guide", metadata=NOT_SHAPING)
    kind: Kind = "head"
    seed: int = 0
    start: Start = field(default_factory=Start)
    value_head: ValueHead = field(default_factory=ValueHead)
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
            "target.mirror needs the LM's probabilities, which traces do not store: leave "
            "data.traces out or name a teacher.path",
        )
        check_tails(self.target, traces=bool(self.data.traces))
        target = self.target
        without_score = (target.within, target.across, target.scale, target.mirror)
        check(
            self.kind == "gradient" or any(without_score),
            "target.score is of a guide's own reward, and a head has none",
        )
        check_start(self.kind, self.start, self.optimise)
        check_searchable(self.kind, self.validation.nabla, "validation.nabla")


def check_start(kind: Kind, start: Start, optimise: Optimise, section: str = "") -> None:
    """Raises ValueError where settings of the backbone do not suit the kind of guide. `section` is
    in front of the keys that the error names."""
    check(
        kind != "gradient" or start.output == "zero",
        f"{section}start.output={start.output}: a gradient guide has no row for each token",
    )
    if kind != "value_head":
        return
    check(
        start.path != "judge",
        f"{section}start.path: a value head is on the LM; use lm, or the folder of a value head",
    )
    check(
        not (optimise.lora.rank or optimise.frozen_layers),
        f"{section}optimise: a value head has no backbone of its own, the LM is frozen as a whole; "
        "leave lora.rank and frozen_layers at 0",
    )


def check_tails(target: Target, *, traces: bool) -> None:
    """Raises ValueError where soft values are asked for and revisions of traces are trained on."""
    check(
        not (target.value == "soft" and traces),
        "target.value: soft is over several tails of a token, and a revision of a trace has one: "
        "leave traces out",
    )


def check_searchable(kind: Kind, config: NablaConfig, name: str) -> None:
    """Raises ValueError where a search needs a gradient and the guide is a head or value head, or
    where its rollouts are guided and the guide is a gradient."""
    check(
        kind == "gradient" or not config.needs_gradient,
        f"{name}: a head has no gradient for dto.optimizer={config.dto.optimizer}; use "
        "proposals=ranked or dto.optimizer=mirror",
    )
    check(
        kind != "gradient" or config.rollout.beta is None,
        f"{name}.rollout.beta must be null: a gradient exists for finished responses alone, so it "
        "guides no decoding; train a head for that",
    )
