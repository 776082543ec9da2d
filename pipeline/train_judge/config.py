"""Settings of `jobs.train_judge`. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nabla_core.config import NablaConfig, Ranked, Sampling, check
from nabla_core.config_metadata import NOT_SHAPING, REVISION, SHAPING_THROUGHOUT
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.grading.graders import FUNCTION, Verify
from pipeline.inputs.prompts import Prompts
from pipeline.training.config import Finetune, Workers

Metric = Literal["accuracy", "best_of", "auc", "auc_within_prompts", "loss"]
Scale = Literal["free", "std", "slope"]


@dataclass(frozen=True)
class Hard:
    """Hard negatives: wrong answers that the last judge scored highly. They come from searches
    against it and from decoding that it guided.

    Attributes:
        quantile: A wrong answer is hard if its reward is at least this quantile of the rewards of
            right answers, of the same judge.
        weight: Hard negatives are drawn this many times as often as other answers. Above 1 the
            judge may unlearn what it knew of fresh answers.
        limit: The share of hard negatives among the answers drawn, at most; null: no limit.
    """

    quantile: float = 0.25
    weight: float = 1.0
    limit: float | None = None

    def __post_init__(self) -> None:
        check(
            0 <= self.quantile <= 1,
            f"data.hard.quantile must be between 0 and 1, got {self.quantile}",
        )
        check(self.weight >= 0, f"data.hard.weight must be at least 0, got {self.weight}")
        check(
            self.limit is None or 0 <= self.limit <= 1,
            f"data.hard.limit must be between 0 and 1, or null, got {self.limit}",
        )


@dataclass(frozen=True)
class Graded:
    """The graded answers that the judge is trained on.

    Attributes:
        runs: Run folders of `nabla generate` whose prompts have answers: samples of the LM at
            several temperatures, and searches and guided decoding against the last judge.
        weights: How often answers of each folder are drawn, parallel to `runs`; empty: as often as
            a folder has answers.
        allow_partial: Also takes run folders that are not complete: their committed rows.
        limit (rows): The first rows of each folder, this many; null: all.
        candidates (responses): Of each search, accepted and rejected responses that are graded and
            trained on too, those with the highest rewards first. They need `store.candidates` in
            the run that made them.
        hard: How often hard negatives are drawn.
        pairs (pairs): Pairs of a right and a wrong answer of each prompt, at most (`loss: pairs`).
        held_out: The fraction of prompts that are held out of training, chosen by their content.
    """

    runs: tuple[str, ...]
    weights: tuple[float, ...] = ()
    allow_partial: bool = False
    limit: int | None = None
    candidates: int = 4
    hard: Hard = field(default_factory=Hard)
    pairs: int = 8
    held_out: float = 0.1

    def __post_init__(self) -> None:
        check(bool(self.runs), "data.runs: name at least one run folder of nabla generate")
        check(
            not self.weights or len(self.weights) == len(self.runs),
            f"data.weights must have a weight for each of data.runs: {len(self.weights)} for "
            f"{len(self.runs)}",
        )
        check(
            all(weight >= 0 for weight in self.weights)
            and (not self.weights or sum(self.weights) > 0),
            f"data.weights must be at least 0 and one of them above, got {list(self.weights)}",
        )
        for name, least in (("limit", 1), ("candidates", 0), ("pairs", 1)):
            value = getattr(self, name)
            check(value is None or value >= least, f"data.{name} must be at least {least}")
        check(
            0 < self.held_out < 1,
            f"data.held_out must be above 0 and below 1, got {self.held_out}",
        )


@dataclass(frozen=True)
class Start:
    """The model that the judge is initialised with.

    Attributes:
        path: `judge` (the last judge), `lm`, or a folder or hub id of another model.
        revision: Branch, tag or commit of a hub model.
        layers (layers): Keeps the first layers of it, this many; null: all. A judge of fewer layers
            is quicker to train and to read with.
    """

    path: str = "judge"
    revision: str | None = field(default=None, metadata=REVISION)
    layers: int | None = None

    def __post_init__(self) -> None:
        check(
            self.layers is None or self.layers >= 1,
            f"start.layers must be at least 1, got {self.layers}",
        )


@dataclass(frozen=True)
class Goal:
    """What is learned.

    Attributes:
        answers: The labels. `final`: whether the answer is right. `steps`: also, at the end of each
            step of a response, whether all steps so far are right; where the reward is read,
            whether all are. `steps` needs a task that can tell, or a `step_function`.
        step_function: With `answers: steps`, `module:name` of a Python function of a prompt (a dict
            with `id`, `messages`, `system` and `answer`) and a response. It returns the steps in
            order, each as a pair of the character behind its end and whether it and all before it
            are right, and whether these are all steps of a right response, such as
            `([(11, True), (23, False)], True)`. It runs as `verify.function` does, with
            `validation.verify.seconds` for each response.
        loss: `pairs`: that a right answer has a higher reward than a wrong one to the same prompt
            (Bradley-Terry, by TRL's RewardTrainer). `bce`: binary cross-entropy of sigmoid(reward),
            so that rewards are log-odds.
        step_weight: The share of the steps in the loss of a response (`answers: steps`).
        center: Weight of the squared sum of the rewards of a pair, which keeps them around 0
            (`loss: pairs`; Eisenstein et al., arXiv 2312.09244).
        scale: The scale of the delivered judge's rewards. `free`: as trained. `std`: the standard
            deviation of those of the last judge. `slope`: the least-squares slope of the last
            judge's rewards on the new ones is 1. A search weighs rewards against log-probabilities,
            so with `free` its settings must be tuned again.
        calibration (responses): Responses that the scale is measured on, at most; they are drawn
            from those that are trained on.
    """

    answers: Literal["final", "steps"] = "final"
    step_function: str | None = None
    loss: Literal["pairs", "bce"] = "bce"
    step_weight: float = 0.5
    center: float = 0.01
    scale: Scale = "std"
    calibration: int = 2000

    def __post_init__(self) -> None:
        check(
            self.answers == "final" or self.loss == "bce",
            "goal.answers=steps needs goal.loss=bce: a pair has no labels at its steps",
        )
        if self.step_function is not None:
            check(
                self.answers == "steps",
                f"goal.step_function needs goal.answers=steps, not {self.answers}",
            )
            check(
                FUNCTION.fullmatch(self.step_function) is not None,
                "goal.step_function must be module:name, such as my_task:steps, got "
                f"{self.step_function!r}",
            )
        check(
            0 < self.step_weight < 1,
            f"goal.step_weight must be above 0 and below 1, got {self.step_weight}",
        )
        check(self.center >= 0, f"goal.center must be at least 0, got {self.center}")
        check(self.calibration >= 2, f"goal.calibration must be at least 2, got {self.calibration}")


def ranked_search() -> NablaConfig:
    """The search that a judge is examined with."""
    return NablaConfig(
        proposals="ranked",
        ranked=Ranked(beta=1.0, reward_weight=2.0),
        rollout=Sampling(temperature=0),
    )


@dataclass(frozen=True)
class Examination:
    """How a checkpoint is measured, and which one is delivered. The last judge is measured alike.

    Attributes:
        prompts: Prompts with answers; disjoint from those that results are reported on. Answers to
            them in `data.runs` are not trained on.
        verify: How answers are graded, also those of candidates.
        metric: What a checkpoint is chosen by: `accuracy` of the search with it, accuracy of the
            best of all samples (`best_of`), `auc` on held-out answers, `auc_within_prompts` (the
            mean over prompts of the AUC among answers to the same one, which is what a search asks
            of a judge), or the `loss` on held-out answers.
        every (steps): A checkpoint is made and measured every so many steps, and after the last
            step.
        samples (responses): Samples of the LM to each prompt, which every judge orders: best-of-N
            curve up to this N, AUC and calibration on fresh answers. 0: none.
        sampling: How they are drawn.
        search: Whether the judge is searched against: accuracy of the search, and AUC of the judge
            on its outputs.
        nabla: The search.
        runs: Run folders of `nabla generate` with answers that the judge is measured on as well,
            outputs of wide searches or of guided decoding for example. Answers to their prompts in
            `data.runs` are not trained on.
        max_tokens (tokens): The longest response.
        held_out (responses): Held-out answers that are measured on, at most.
    """

    prompts: Prompts = field(default_factory=lambda: Prompts(split="validation", limit=200))
    # The time that a grader may take can decide which checkpoint is chosen.
    verify: Verify = field(default_factory=Verify, metadata=SHAPING_THROUGHOUT)
    metric: Metric = "accuracy"
    every: int = 250
    samples: int = 64
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.7))
    search: bool = True
    nabla: NablaConfig = field(default_factory=ranked_search)
    runs: tuple[str, ...] = ()
    max_tokens: int = 1024
    held_out: int = 1000

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("max_tokens", 1), ("held_out", 1), ("samples", 0)):
            value = getattr(self, name)
            check(value >= least, f"validation.{name} must be at least {least}, got {value}")
        check(
            self.verify.method != "none",
            "validation.verify.method=none: a judge learns from graded answers",
        )
        check(
            self.metric != "accuracy" or self.search,
            "validation.metric=accuracy needs validation.search=true",
        )
        check(
            self.metric != "best_of" or self.samples > 0,
            "validation.metric=best_of needs validation.samples above 0",
        )
        check(
            self.samples == 0 or self.sampling.temperature > 0,
            "validation.sampling.temperature must be above 0: greedy samples are one response",
        )
        check(
            self.sampling.beta is None,
            "validation.sampling.beta must be null: fresh answers are samples of the LM alone",
        )


@dataclass(frozen=True)
class TrainJudgeConfig:
    """The settings of `nabla train-judge`. The judge is written to `<run_dir>/judge`.

    Attributes:
        data: What the judge is trained on.
        run_dir: The run folder: a path or any URI that pyarrow or fsspec opens.
        seed: Seed of the order of answers, of samples and of new weights.
        start: The model that the judge is initialised with.
        lm: The language model of the data, and of the samples and searches that are measured.
        reward: The last judge, which the new one is measured beside, and the guide of the search.
            `reward.judge` is null for the first judge of an LM.
        goal: What is learned.
        optimise: The optimiser.
        validation: How checkpoints are measured and chosen.
        runtime: How models run while they are measured; `runtime.device` is that of the worker.
        report_to: Where the figures of training are sent besides the run folder: `tensorboard`,
            `wandb` or `mlflow`, where installed. Nothing is sent anywhere else.
        workers: The processes that train.
    """

    data: Graded
    run_dir: str = field(default="runs/judge", metadata=NOT_SHAPING)
    seed: int = 0
    start: Start = field(default_factory=Start)
    lm: LM = field(default_factory=LM)
    reward: Reward = field(default_factory=Reward)
    goal: Goal = field(default_factory=Goal)
    optimise: Finetune = field(default_factory=lambda: Finetune(steps=500, learning_rate=1e-5))
    validation: Examination = field(default_factory=Examination)
    runtime: Runtime = field(default_factory=Runtime)
    report_to: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = field(
        default=(), metadata=NOT_SHAPING
    )
    # The number of workers changes weights by rounding errors alone.
    workers: Workers = field(default_factory=Workers, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        optimise, count = self.optimise, self.workers.count
        check(
            optimise.steps is not None,
            "optimise.steps must be given: answers are drawn by their weights, and so have no "
            "epochs",
        )
        check(
            optimise.batch % (self.micro_batch * count) == 0,
            f"optimise.batch={optimise.batch} must be a multiple of optimise.micro_batch="
            f"{optimise.micro_batch} times workers.count={count}",
        )
        if self.reward.judge is None:
            check(
                self.start.path != "judge",
                "start.path=judge: reward.judge=null names no last judge; start from lm",
            )
            check(
                self.goal.scale == "free",
                f"goal.scale={self.goal.scale} takes the scale of the last judge, and "
                "reward.judge=null names none: set goal.scale=free",
            )
        check(
            not optimise.fsdp or self.workers.gpu,
            "optimise.fsdp=true needs workers.gpu=true: weights are sharded over GPUs",
        )

    @property
    def micro_batch(self) -> int:
        """Rows that a worker processes at a time: never more than its share of a step."""
        return min(self.optimise.micro_batch, max(1, self.optimise.batch // self.workers.count))
