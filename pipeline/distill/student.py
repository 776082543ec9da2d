"""The student: the model that is trained, and how it is saved as it will be delivered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from nabla_core.errors import ModelError
from nabla_core.models.hub import cache_without_network
from nabla_core.models.identity import identify, unchanged
from nabla_core.models.layers import context_length
from nabla_core.models.loading import stop_ids
from nabla_core.models.pretrained import load_pretrained, load_tokenizer, own_dtype
from nabla_core.text.chat_template import fix_date
from nabla_core.text.fingerprint import fingerprint
from nabla_core.types import Identity
from pipeline.distill.config import DistillConfig
from pipeline.distill.exports import Export
from pipeline.distill.models import student_of
from pipeline.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(kw_only=True)
class Student:
    """The base, before training. `stop`: the ids that end a response; `context` (tokens)."""

    model: Any
    tokenizer: Any
    identity: Identity
    stop: frozenset[int]
    context: int


def load_student(config: DistillConfig) -> Student:
    """Load the base on the CPU, its weights in the type that they are trained in.

    Raises ModelError.
    """
    path, revision = student_of(config)
    optimise = config.optimise
    # Weights that are trained are float32: in bfloat16 a small step would be lost in rounding.
    dtype = DTYPES[optimise.dtype if optimise.lora.rank else "float32"]
    with unchanged(path):
        tokenizer = load_tokenizer(path, revision)
        model = _load(path, revision, dtype, optimise.attention)
    # TRL renders the rows with it, and would tell the template the date of today.
    fix_date(tokenizer, config.template_date)
    require_pad_token(tokenizer, path)
    return Student(
        model=model,
        tokenizer=tokenizer,
        identity=identify(path, revision),
        stop=stop_ids(model, tokenizer),
        context=context_length(model),
    )


def require_pad_token(tokenizer: Any, path: str) -> None:
    """Raises ModelError where a tokenizer has no pad token."""
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"{path}: its tokenizer has no pad token, and TRL would use a stop token in its place"
        )


def check_readable(tokenizer: Any, name: str, exports: list[Export]) -> None:
    """Raises InputError where the student's tokenizer or template does not fit the rows. `name` is
    that of the student."""
    for export in exports:
        own = fingerprint(tokenizer)
        if export.tokenizer is None and not tokenizer.chat_template:
            raise InputError(
                f"{export.path} holds messages, and the tokenizer of {name} has no chat template: "
                "export with layout=text or format=tokens"
            )
        if export.tokenizer is not None and export.tokenizer != own:
            what = "tokens" if export.format == "tokens" else "texts in the template"
            raise InputError(
                f"{export.path} holds {what} of the tokenizer {export.tokenizer}, and {name} has "
                f"{own}: export with format=sft layout=prompt_completion for another tokenizer"
            )


def save_deliverable(config: DistillConfig, checkpoint: Path, target: Path) -> None:
    """Write the model of a Trainer's checkpoint as users will get it: plain weights in the type of
    the base (adapters merged in float32), with the base's own tokenizer and generation config."""
    path, revision = student_of(config)
    if config.optimise.lora.rank:
        from peft import PeftModel  # noqa: PLC0415 - an optional package

        base = _load(path, revision, torch.float32, config.optimise.attention)
        model = PeftModel.from_pretrained(base, str(checkpoint)).merge_and_unload()
    else:
        model = AutoModelForCausalLM.from_pretrained(
            checkpoint, trust_remote_code=False, dtype=torch.float32
        )
    model.to(own_dtype(path, revision)).save_pretrained(target)
    # TRL writes a pad token and its own template into those of the checkpoint.
    load_tokenizer(path, revision).save_pretrained(target)
    with cache_without_network(path):
        GenerationConfig.from_pretrained(path, revision=revision).save_pretrained(target)


def _load(path: str, revision: str | None, dtype: torch.dtype, attention: str) -> Any:
    return load_pretrained(
        AutoModelForCausalLM,
        path,
        purpose="a student",
        revision=revision,
        dtype=dtype,
        attn_implementation=attention,
    )
