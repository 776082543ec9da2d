"""The embedded models from their configuration: Qwen2 with hidden size 64, fp32, eager attention.

Eager attention, because training a guide differentiates a gradient, and fused attention has no
second derivative.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)

from nabla_core.embedded.tokenizer import PAD_ID, STOP_ID, VOCABULARY

LM_LAYERS = 3
RM_LAYERS = 6


def _config(layers: int, **extra: Any) -> Qwen2Config:
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
        initializer_range=0.05,
        pad_token_id=PAD_ID,
        bos_token_id=None,
        eos_token_id=STOP_ID,
        dtype="float32",
        **extra,
    )
    config._attn_implementation = "eager"
    return config


def new_lm() -> Qwen2ForCausalLM:
    """A language model with 126,976 random parameters, from torch's global generator."""
    return Qwen2ForCausalLM(_config(LM_LAYERS))


def new_foundation() -> Qwen2ForCausalLM:
    """As `new_lm`, with larger embeddings, as the lower part of reward models.

    A reward model compares a token with what the LM expected there, so the token must still be
    readable above the LM's layers. With a standard deviation of 0.05 it is not: after 1,300
    steps no trace was judged correctly.
    """
    lm = new_lm()
    torch.nn.init.normal_(lm.model.embed_tokens.weight, std=0.5)
    return lm


def new_rm(lm: Qwen2ForCausalLM) -> Qwen2ForSequenceClassification:
    """A reward model with 249,344 parameters on a frozen LM.

    Embeddings and layers 1-3 are those of the LM and are not trained. Layers 4-6 start as the
    identity: they are copies of the LM's layers, whose attention to neighbours is useful, with
    output projections set to zero.
    """
    rm = Qwen2ForSequenceClassification(_config(RM_LAYERS, num_labels=1))
    stand_on(rm, lm)
    return rm


def stand_on(rm: PreTrainedModel, lm: PreTrainedModel) -> None:
    """Set the lower layers of a deeper reward model to those of the LM and freeze them; make the
    other layers the identity."""
    body, below = rm.base_model, lm.base_model
    body.embed_tokens.load_state_dict(below.embed_tokens.state_dict())
    for index, layer in enumerate(body.layers):
        layer.load_state_dict(below.layers[index % len(below.layers)].state_dict())
    # With output projections of zero a layer adds nothing to the residual stream.
    with torch.no_grad():
        for layer in body.layers[len(below.layers) :]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    freeze_lower(rm, len(below.layers))


def freeze_lower(rm: PreTrainedModel, layers: int = LM_LAYERS) -> None:
    """Freeze a reward model's embeddings and first layers."""
    rm.base_model.embed_tokens.requires_grad_(False)
    for layer in rm.base_model.layers[:layers]:
        layer.requires_grad_(False)


def rewards(rm: Qwen2ForSequenceClassification, ids: Tensor) -> Tensor:
    """Rewards `[B]` of right-padded prompts with responses, ids `[B, L]`, at their last token."""
    return rewards_of_embeddings(rm, rm.model.embed_tokens(ids), ids)


def rewards_of_embeddings(
    rm: Qwen2ForSequenceClassification, embedded: Tensor, ids: Tensor
) -> Tensor:
    """As `rewards`, from input embeddings `[B, L, H]`; `ids` are used for the ends of rows only."""
    hidden = rm.model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    last = (ids != PAD_ID).sum(1) - 1
    pooled = hidden[torch.arange(len(ids), device=ids.device), last]
    values: Tensor = rm.score(pooled).squeeze(-1)
    return values
