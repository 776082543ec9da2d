"""Settings of `jobs.distill`. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nabla_core.config import check
from nabla_core.config_metadata import NOT_SHAPING, SHAPING_THROUGHOUT
from nabla_core.model_config import LM, TEMPLATE_DATE, check_date
from pipeline.export.config import Filters, Layout, Pairs, Split
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts
from pipeline.training.config import Finetune, Workers

Metric = Literal["accuracy", "reward", "loss"]


@dataclass(frozen=True)
class TrainingRows:
    """The rows that the student is trained on.

    Attributes:
        exports: Folders of `nabla export`, all of one format: responses (`sft`, `tokens`) or pairs
            (`preference`, `reward`).
        files: Files of responses of your own, gold solutions for example, instead of folders:
            prompt files of any kind whose rows also have a text `completion`.
        held_out: The fraction of prompts that are held out of training, chosen by their ids, where
            the exports have no split of held-out prompts.
        limit (rows): The first rows of each folder or file, this many; null: all.
        max_length (tokens): Longer rows, prompt included, are left out and counted; null: the
            context of the student.
    """

    exports: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    held_out: float = 0.02
    limit: int | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        check(
            0 <= self.held_out < 1,
            f"data.held_out must be at least 0 and below 1, got {self.held_out}",
        )
        for name in ("limit", "max_length"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"data.{name} must be at least 1, got {value}")


@dataclass(frozen=True)
class FromRuns:
    """Run folders that are exported first, to `<run_dir>/export`, for the tokenizer and chat
    template of the student; instead of `data.exports`. The keys are those of `nabla export`.

    Attributes:
        run_dir: Run folders of `nabla generate`; empty: `data.exports` names dataset folders.
        format: What a row is: responses (`sft`, `tokens`) or pairs (`preference`, `reward`).
        layout: The columns of format `sft`.
        pairs: Which pairs, of format `preference`.
        allow_partial: Also takes run folders that are not complete: their committed rows.
        filters: Which traces are trained on.
        split: Held-out prompts.
    """

    run_dir: tuple[str, ...] = ()
    format: Literal["sft", "tokens", "preference", "reward"] = "sft"
    layout: Layout = "prompt_completion"
    pairs: Pairs = "both"
    allow_partial: bool = False
    filters: Filters = field(default_factory=Filters)
    split: Split = field(default_factory=Split)


@dataclass(frozen=True)
class Dpo:
    """Direct preference optimisation (Rafailov et al., arXiv 2305.18290), where the rows are pairs.
    The loss is that of DPO plus that of SFT on the chosen response: without the latter the
    likelihood of both responses falls, and the student may end below its base.

    Attributes:
        beta: Strength of the penalty for leaving the base.
        sft_weight: Weight of the SFT loss on the chosen response; above 0.
    """

    beta: float = 0.1
    sft_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("beta", "sft_weight"):
            value = getattr(self, name)
            check(value > 0, f"dpo.{name} must be above 0, got {value}")


@dataclass(frozen=True)
class Selection:
    """How checkpoints are measured, and which one is delivered. A checkpoint is measured as it
    would be delivered: saved, loaded again, greedy, without a search.

    Attributes:
        prompts: The prompts that are answered; disjoint from those that are trained on and from
            those that results are reported on.
        verify: How answers are graded.
        judge: A reward model that judges the answers, or `embedded`; null: none.
        judge_revision: Branch, tag or commit of a judge from the hub.
        metric: What the checkpoint is chosen by: `accuracy` of the answers, the judge's mean
            `reward`, or the `loss` on held-out rows.
        max_tokens (tokens): The longest response.
        every (steps): A checkpoint is made and measured every so many steps, and after the last
            step.
        max_batch (sequences): Sequences in a batch, at most.
        max_batch_tokens (tokens): Tokens in a batch, padding included; about at most.
    """

    prompts: Prompts = field(default_factory=lambda: Prompts(split="validation", limit=200))
    # The time that a grader may take can decide which checkpoint is chosen.
    verify: Verify = field(default_factory=Verify, metadata=SHAPING_THROUGHOUT)
    judge: str | None = None
    judge_revision: str | None = None
    metric: Metric = "loss"
    max_tokens: int = 1024
    every: int = 250
    max_batch: int = field(default=64, metadata=NOT_SHAPING)
    max_batch_tokens: int = field(default=65536, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        for name in ("max_tokens", "every", "max_batch", "max_batch_tokens"):
            value = getattr(self, name)
            check(value >= 1, f"validation.{name} must be at least 1, got {value}")
        check(
            self.metric != "accuracy" or self.verify.method != "none",
            "validation.metric=accuracy needs a validation.verify.method",
        )
        check(
            self.metric != "reward" or self.judge is not None,
            "validation.metric=reward needs a validation.judge",
        )


@dataclass(frozen=True)
class DistillConfig:
    """The settings of `nabla distill`. The student is written to `<run_dir>/student`.

    Attributes:
        data: What the student is trained on: dataset folders, or files of your own.
        export: What it is trained on: run folders, exported first.
        run_dir: The run folder: a path or any URI that pyarrow or fsspec opens.
        seed: Seed of the order of rows and of new weights.
        student: The model that is trained.
        dpo: The loss where the rows are pairs.
        optimise: The optimiser.
        validation: How checkpoints are measured and chosen.
        template_date (YYYY-MM-DD): The date that chat templates are told, in training and in
            validation: that of the runs which made the data (`runtime.template_date`). It never
            comes from the clock.
        report_to: Where the figures of training are sent besides the run folder: `tensorboard`,
            `wandb` or `mlflow`, where installed. Nothing is sent anywhere else.
        workers: The processes that train.
    """

    data: TrainingRows = field(default_factory=TrainingRows)
    export: FromRuns = field(default_factory=FromRuns)
    run_dir: str = field(default="runs/student", metadata=NOT_SHAPING)
    seed: int = 0
    student: LM = field(default_factory=LM)
    dpo: Dpo = field(default_factory=Dpo)
    optimise: Finetune = field(default_factory=Finetune)
    validation: Selection = field(default_factory=Selection)
    template_date: str = TEMPLATE_DATE
    report_to: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = field(
        default=(), metadata=NOT_SHAPING
    )
    # The number of workers changes weights by rounding errors alone, but for the last step of an
    # epoch: there rows are repeated until all workers have as many.
    workers: Workers = field(default_factory=Workers, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        check(
            [bool(self.data.exports), bool(self.data.files), bool(self.export.run_dir)].count(True)
            == 1,
            "name what to train on, in one place: folders of nabla export in data.exports, files "
            "of prompts and completions in data.files, or run folders of nabla generate in "
            "export.run_dir",
        )
        check_date("template_date", self.template_date)
        optimise, count = self.optimise, self.workers.count
        check(
            optimise.batch % count == 0,
            f"optimise.batch={optimise.batch} must be a multiple of workers.count={count}",
        )
        check(
            optimise.batch % (self.micro_batch * count) == 0,
            f"optimise.batch={optimise.batch} must be a multiple of optimise.micro_batch="
            f"{optimise.micro_batch} times workers.count={count}",
        )
        check(
            not optimise.fsdp or self.workers.gpu,
            "optimise.fsdp=true needs workers.gpu=true: weights are sharded over GPUs",
        )

    @property
    def micro_batch(self) -> int:
        """Rows that a worker processes at a time: never more than its share of a step."""
        return min(self.optimise.micro_batch, self.optimise.batch // self.workers.count)
