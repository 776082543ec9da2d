"""The judge that is trained: a sequence classifier with one label, and how it is delivered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from nabla_core.engines.loading import reader_for
from nabla_core.errors import ModelError
from nabla_core.guide_training.trainees import open_classifier
from nabla_core.judge_training.examples import JudgeEncoder
from nabla_core.models.identity import identify, unchanged
from nabla_core.models.loading import LanguageModel, reward_model
from nabla_core.models.pretrained import load_tokenizer, own_dtype
from nabla_core.types import Identity
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.train_judge.models import start_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(kw_only=True)
class NewJudge:
    """The judge before training, and the encoder of the LM's responses for it."""

    model: Any
    tokenizer: Any
    identity: Identity
    encoder: JudgeEncoder


def load_new_judge(config: TrainJudgeConfig, lm: LanguageModel) -> NewJudge:
    """Load the start on the CPU, its weights in the type that they are trained in; a missing output
    layer is drawn from the seed.

    Raises ModelError, also where the model cannot be used as a judge, and VocabularyError where it
    knows too few of the LM's tokens.
    """
    path, revision = start_of(config)
    optimise = config.optimise
    # Weights that are trained are float32: in bfloat16 a small step would be lost in rounding.
    dtype = DTYPES[optimise.dtype if optimise.lora.rank else "float32"]
    with unchanged(path):
        tokenizer = load_tokenizer(path, revision)
        model = _open(config, dtype)
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"{path}: its tokenizer has no pad token, by which a classifier finds the end of a text"
        )
    # As TRL sets it: a model that was an LM may not say.
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    made = reward_model(model, tokenizer, Identity(path, "in training"))
    reader = reader_for(made, lm, config.reward.min_coverage)
    return NewJudge(
        model=model,
        tokenizer=tokenizer,
        identity=identify(path, revision),
        encoder=JudgeEncoder(reader, config.reward.tools),
    )


def save_deliverable(
    config: TrainJudgeConfig, checkpoint: Path, target: Path, scale: Callable[[Path], float]
) -> float:
    """Write the model of a Trainer's checkpoint to `target` as users will get it, and return the
    factor of its rewards.

    It has plain weights in the type of the start (adapters merged in float32), and the start's own
    tokenizer. `scale` measures the factor on the model in a folder.
    """
    path, revision = start_of(config)
    if config.optimise.lora.rank:
        from peft import PeftModel  # noqa: PLC0415 - an optional package

        base = _open(config, torch.float32)
        model = PeftModel.from_pretrained(base, str(checkpoint)).merge_and_unload()
    else:
        model = AutoModelForSequenceClassification.from_pretrained(
            checkpoint, trust_remote_code=False, dtype=torch.float32
        )
    tokenizer = load_tokenizer(path, revision)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    dtype = own_dtype(path, revision)
    model.to(dtype).save_pretrained(target)
    tokenizer.save_pretrained(target)
    if config.goal.scale == "free":
        return 1.0
    factor = scale(target)
    with torch.no_grad():
        for parameter in model.score.parameters():
            parameter.mul_(factor)
    model.save_pretrained(target)
    return factor


def _open(config: TrainJudgeConfig, dtype: torch.dtype) -> Any:
    path, revision = start_of(config)
    torch.manual_seed(config.seed)  # every worker must draw the same output layer
    model = open_classifier(
        path, revision, attention=config.optimise.attention, purpose="a judge", dtype=dtype
    )
    if config.start.layers is not None:
        _keep_layers(model, config.start.layers, path)
    return model


def _keep_layers(model: Any, count: int, path: str) -> None:
    """Drop all layers of the body but the first ones. Raises ModelError where it has fewer."""
    layers = getattr(model.base_model, "layers", None)
    if layers is None or len(layers) < count:
        there = "no list of layers" if layers is None else f"{len(layers)} layers"
        raise ModelError(f"start.layers={count}: {path} has {there}")
    model.base_model.layers = layers[:count]
    text = model.config.get_text_config()
    text.num_hidden_layers = count
    # Some families say of each layer how it attends.
    if getattr(text, "layer_types", None) is not None:
        text.layer_types = text.layer_types[:count]
