"""The settings of a training as transformers' Trainer and peft take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from nabla_core.errors import ModelError
from nabla_core.guide_training.settings import Lora
from pipeline.training.config import Finetune

SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant_with_warmup",
}


def trainer_arguments(
    optimise: Finetune,
    workers: int,
    *,
    seed: int,
    every: int,
    report_to: Sequence[str],
    output: str,
    cpu: bool,
) -> dict[str, Any]:
    """The arguments that all trainers share. `output` is a folder for the Trainer's checkpoints,
    `every` the number of steps between ours."""
    share = optimise.batch // workers
    micro_batch = min(optimise.micro_batch, share)  # never more than a worker's share of a step
    return {
        "output_dir": output,
        "per_device_train_batch_size": micro_batch,
        "per_device_eval_batch_size": micro_batch,
        "gradient_accumulation_steps": share // micro_batch,
        "num_train_epochs": optimise.epochs,
        "max_steps": optimise.steps or -1,
        "learning_rate": optimise.learning_rate,
        "lr_scheduler_type": SCHEDULES[optimise.schedule],
        "warmup_steps": optimise.warmup,
        "weight_decay": optimise.weight_decay,
        "max_grad_norm": optimise.clip,
        "bf16": optimise.dtype == "bfloat16",
        "gradient_checkpointing": optimise.gradient_checkpointing,
        "seed": seed,
        "use_cpu": cpu,
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": not cpu,
        # Our callback says when.
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_steps": min(10, every),
        "report_to": list(report_to) or "none",
        "disable_tqdm": True,
        **({"fsdp": True} if optimise.fsdp else {}),
    }


def adapters(lora: Lora, model: nn.Module, *, output: str, task: str) -> Any:
    """peft's settings of `optimise.lora`, None without. `output` is the name of the output layer,
    which gets no adapter. Raises ModelError naming a target that is no linear layer of the model.
    """
    if not lora.rank:
        return None
    from peft import LoraConfig  # noqa: PLC0415 - an optional package

    linear = {
        name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, nn.Linear)
    } - {output}
    for target in lora.targets:
        if target not in linear:
            raise ModelError(
                f"optimise.lora.targets: {target!r} cannot be adapted; there are "
                + ", ".join(sorted(linear))
            )
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=list(lora.targets) or sorted(linear),
        task_type=task,
        # The output layer of a classifier may be a new one: it is trained in full.
        modules_to_save=[output] if task == "SEQ_CLS" else None,
    )
