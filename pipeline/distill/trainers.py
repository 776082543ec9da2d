"""TRL's trainers with the settings of a distillation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import datasets
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from nabla_core.models.hub import cache_without_network
from pipeline.distill.config import DistillConfig
from pipeline.distill.exports import Kind
from pipeline.distill.models import student_of
from pipeline.distill.rows import KEY, Rows
from pipeline.distill.student import DTYPES, Student
from pipeline.errors import InputError
from pipeline.training.arguments import adapters, trainer_arguments


@dataclass
class Prepared:
    """A trainer that is ready to train, and what it left out of the rows, by reason."""

    trainer: Any
    left_out: Counter[str]


def build_trainer(
    config: DistillConfig,
    kind: Kind,
    student: Student,
    rows: Rows,
    *,
    output: str,
    cpu: bool,
    callbacks: list[TrainerCallback],
) -> Prepared:
    """The trainer of these rows; `output` is a folder for its checkpoints.

    Raises InputError where no row is left, or where rows do not teach the student to stop, and
    ModelError.
    """
    common: dict[str, Any] = {
        "model": student.model,
        "train_dataset": rows.train.remove_columns(KEY),
        "eval_dataset": None if rows.held_out is None else rows.held_out.remove_columns(KEY),
        "processing_class": student.tokenizer,
        "callbacks": callbacks,
        "peft_config": adapters(
            config.optimise.lora, student.model, output="lm_head", task="CAUSAL_LM"
        ),
    }
    arguments = trainer_arguments(
        config.optimise,
        config.workers.count,
        seed=config.seed,
        every=config.validation.every,
        report_to=config.report_to,
        output=output,
        cpu=cpu,
    ) | {"max_length": None}  # rows are never cut, which would alter them silently
    trainer: Any
    if kind == "responses":
        settings = SFTConfig(completion_only_loss=True, **arguments)
        trainer = SFTTrainer(args=settings, **common)
    else:
        settings = DPOConfig(
            beta=config.dpo.beta,
            # Without the SFT term the likelihood of the chosen response may fall too.
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, config.dpo.sft_weight],
            **arguments,
        )
        trainer = DPOTrainer(args=settings, ref_model=_reference(config), **common)
    return Prepared(trainer, _leave_out(trainer, student, config.data.max_length))


def _reference(config: DistillConfig) -> Any:
    """The frozen base that DPO compares with. None with adapters: TRL switches them off."""
    if config.optimise.lora.rank:
        return None
    path, revision = student_of(config)
    with cache_without_network(path):
        return AutoModelForCausalLM.from_pretrained(
            path,
            revision=revision,
            trust_remote_code=False,
            dtype=DTYPES[config.optimise.dtype],
            attn_implementation=config.optimise.attention,
        )


def _leave_out(trainer: Any, student: Student, max_length: int | None) -> Counter[str]:
    """Leave rows that are too long out of the trainer. Raises InputError; see `build_trainer`."""
    limit = min(max_length or student.context, student.context)
    left_out: Counter[str] = Counter()
    for name, label in (("train_dataset", "rows"), ("eval_dataset", "held-out rows")):
        rows = getattr(trainer, name)
        if rows is None:
            continue
        kept = rows.filter(lambda row: _length(row) <= limit)
        if len(kept) < len(rows):
            left_out[f"{label} longer than {limit} tokens"] = len(rows) - len(kept)
        if not len(kept):
            raise InputError(f"no {label} are left: all {len(rows)} are longer than {limit} tokens")
        _check_stop(kept, student)
        setattr(trainer, name, kept)
    return left_out


def _length(row: dict[str, Any]) -> int:
    if "input_ids" in row:
        return len(row["input_ids"])
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def _check_stop(rows: datasets.Dataset, student: Student) -> None:
    """Raises InputError unless every response that is trained on has a stop id at its end.

    Templates may write a line break behind it, so it may be the last id but one.
    """
    column = "labels" if "labels" in rows.column_names else "chosen_ids"
    for number, ids in enumerate(rows[column]):
        if student.stop.isdisjoint(ids[-2:]):
            raise InputError(
                f"row {number + 1} does not teach {student.identity.name} to stop: its last ids "
                f"{list(ids[-2:])} hold none of the stop ids {sorted(student.stop)}; the student's "
                "chat template must end a response with one, or export with format=tokens"
            )
