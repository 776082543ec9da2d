"""Tiny random models of any family that transformers knows, made from its config class.

Two layers, 32 wide, float32. Weights are drawn anew and large, so that contexts, experts, windows
and caps make a visible difference: a family's own initial weights are too small for that, and some
layers begin at zero.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

from nabla_core.models.loading import LanguageModel, RewardModel, language_model, reward_model
from nabla_core.types import Identity
from tests.core.tiny import characters

SIZE = 24
TOKENIZER = characters("abcdefghijklmnopqrstu")
PAD, EOS, UNKNOWN = 0, 1, 2
# Of one token to twelve: shorter and longer than the window below.
PROMPTS: list[tuple[int, ...]] = [
    (3, 4, 5, 6, 7, 8, 9, 10, 11),
    (5,),
    (7, 8),
    (20, 3, 4, 9, 9, 9),
    (6, 5, 4, 3),
    (12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23),
    (9, 8, 7),
    (EOS, PAD, 2, 5),
]

# A config takes the keys that it knows and stores the others. The window is shorter than most test
# sequences.
SHAPE: dict[str, Any] = {
    "vocab_size": SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "bos_token_id": UNKNOWN,
    "tie_word_embeddings": False,
    "sliding_window": 4,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "dtype": "float32",
}


def causal_lm(kind: str, *, seed: int = 0, **changes: Any) -> Any:
    """A causal LM of transformers of the model type `kind`."""
    return _made(AutoModelForCausalLM, kind, changes, seed)


def classifier(kind: str, *, seed: int = 0, **changes: Any) -> Any:
    """A sequence classifier of transformers with one label."""
    return _made(AutoModelForSequenceClassification, kind, {"num_labels": 1, **changes}, seed)


def _made(auto: Any, kind: str, changes: dict[str, Any], seed: int) -> Any:
    settings = {key: value for key, value in {**SHAPE, **changes}.items() if value is not ...}
    config = AutoConfig.for_model(kind, **settings)
    # transformers' default kernel leaves out the cap of attention scores, so it is no reference.
    kernel = "eager" if getattr(config, "attn_logit_softcapping", None) else None
    model = auto.from_config(config, attn_implementation=kernel).eval().requires_grad_(False)
    draws = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        noise = torch.randn(weight.shape, generator=draws)
        if weight.ndim >= 2:
            weight.copy_(noise * 1.5 / weight.shape[-1] ** 0.5)
        else:  # norms and biases
            weight.add_(0.2 * noise)
    return model


def as_lm(model: Any) -> LanguageModel:
    """The model as the product loads it; errors name it by its type."""
    return language_model(model, TOKENIZER, Identity(model.config.model_type, "tiny"))


def as_reward_model(model: Any) -> RewardModel:
    return reward_model(model, TOKENIZER, Identity(model.config.model_type, "tiny"))
