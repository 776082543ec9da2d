"""The trainers of a judge: TRL's RewardTrainer for pairs, transformers' Trainer for labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from trl import RewardConfig, RewardTrainer

from nabla_core.judge_training.examples import JudgeExample, batch_of, example_of
from nabla_core.judge_training.losses import position_loss
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.train_judge.judge import NewJudge
from pipeline.train_judge.mixture import Pair
from pipeline.training.arguments import adapters, trainer_arguments


class PositionTrainer(Trainer):  # type: ignore[misc]
    """Trains on labels at positions (`nabla_core.judge_training.losses`), which no trainer of TRL
    does."""

    # The loss is a mean over the responses of a micro-batch.
    loss_is_scaled_for_ga = False

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        # So that the loss is evaluated although no column is called `labels`.
        self.can_return_loss = True
        self.label_names: list[str] = []

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, **more: Any
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, Any]]:
        loss = position_loss(model, self.model.score, inputs)
        return (loss, {}) if return_outputs else loss


def label_trainer(
    config: TrainJudgeConfig,
    judge: NewJudge,
    train: Sequence[JudgeExample],
    held_out: Sequence[JudgeExample],
    order: Sequence[int],
    *,
    output: str,
    cpu: bool,
    callbacks: list[TrainerCallback],
) -> Any:
    """A trainer of `train`, whose rows come in `order`; `output` is a folder for its files."""
    arguments = TrainingArguments(
        **_arguments(config, output, cpu), remove_unused_columns=False, prediction_loss_only=True
    )
    pad = judge.tokenizer.pad_token_id
    model = judge.model
    settings = _adapters(config, judge)
    if settings is not None:
        from peft import get_peft_model  # noqa: PLC0415 - an optional package

        torch.manual_seed(config.seed)  # every worker must draw the same adapters
        model = get_peft_model(model, settings)
    return PositionTrainer(
        model=model,
        args=arguments,
        train_dataset=_examples(train).select(order),
        eval_dataset=_examples(held_out),
        processing_class=judge.tokenizer,
        data_collator=lambda rows: batch_of([example_of(row) for row in rows], pad),
        callbacks=callbacks,
    )


def pair_trainer(
    config: TrainJudgeConfig,
    judge: NewJudge,
    train: tuple[Sequence[JudgeExample], Sequence[Pair]],
    held_out: tuple[Sequence[JudgeExample], Sequence[Pair]],
    order: Sequence[int],
    *,
    output: str,
    cpu: bool,
    callbacks: list[TrainerCallback],
) -> Any:
    """As `label_trainer`, on pairs of examples. They have ids already, those that engines would
    give the judge: TRL would render them with its chat template alone."""
    arguments = RewardConfig(
        **_arguments(config, output, cpu),
        max_length=None,  # rows are never cut, which would alter them silently
        center_rewards_coefficient=config.goal.center or None,
    )
    return RewardTrainer(
        model=judge.model,
        args=arguments,
        train_dataset=_pairs(*train).select(order),
        eval_dataset=_pairs(*held_out),
        processing_class=judge.tokenizer,
        callbacks=callbacks,
        peft_config=_adapters(config, judge),
    )


def _arguments(config: TrainJudgeConfig, output: str, cpu: bool) -> dict[str, Any]:
    common = trainer_arguments(
        config.optimise,
        config.workers.count,
        seed=config.seed,
        every=config.validation.every,
        report_to=config.report_to,
        output=output,
        cpu=cpu,
    )
    # Rows are in the order in which they were drawn.
    return {**common, "train_sampling_strategy": "sequential"}


def _adapters(config: TrainJudgeConfig, judge: NewJudge) -> Any:
    return adapters(config.optimise.lora, judge.model, output="score", task="SEQ_CLS")


def _examples(examples: Sequence[JudgeExample]) -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {
            "ids": [e.ids for e in examples],
            "positions": [e.positions for e in examples],
            "labels": [e.labels for e in examples],
            "weights": [e.weights for e in examples],
        }
    )


def _pairs(examples: Sequence[JudgeExample], pairs: Sequence[Pair]) -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {
            "chosen_ids": [examples[pair.right].ids for pair in pairs],
            "rejected_ids": [examples[pair.wrong].ids for pair in pairs],
        }
    )
