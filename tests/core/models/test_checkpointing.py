"""Layers that run again in the backward pass: nothing but memory changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from nabla_core.models.forward import Reading, read

WIDTH: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
# Dropout of .5 that must stay off: these models read the training flag of the layer itself.
SETTINGS: dict[str, dict[str, Any]] = {
    "opt": {**WIDTH, "ffn_dim": 16, "word_embed_proj_dim": 16, "dropout": 0.5},
    "biogpt": {**WIDTH, "intermediate_size": 16, "hidden_dropout_prob": 0.5},
    "xglm": {"d_model": 16, "num_layers": 2, "attention_heads": 2, "ffn_dim": 16, "dropout": 0.5},
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2, "hidden_dropout": 0.5},
    "falcon": {**WIDTH, "hidden_dropout": 0.5, "attention_dropout": 0.5},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.5, "attn_pdrop": 0.5},
    "llama": {**WIDTH, "intermediate_size": 16, "attention_dropout": 0.5},
}


def gradient(model: Any, *, checkpoint: bool) -> tuple[Any, Any]:
    readings = [Reading((5, 6, 7, 8)), Reading((5, 9))]
    parts: Any = SimpleNamespace(
        body=model.base_model, embed=model.get_input_embeddings(), device=torch.device("cpu")
    )
    with torch.enable_grad():
        done = read(parts, readings, gradient=True, return_cache=False, checkpoint=checkpoint)
        (found,) = torch.autograd.grad(done.hidden.pow(3).sum(), done.embeddings)
    return done.hidden.detach(), found


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_checkpointed_pass_is_the_pass(kind: str):
    torch.manual_seed(0)
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    config = AutoConfig.for_model(kind, vocab_size=30, **SETTINGS[kind], **special)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    body = model.base_model
    forwards = [vars(module).get("forward") for module in body.modules()]
    hidden, plain = gradient(model, checkpoint=False)
    again, checkpointed = gradient(model, checkpoint=True)
    assert plain.abs().max() > 0
    assert torch.equal(again, hidden)
    assert torch.equal(checkpointed, plain)
    # The layers are as they were.
    assert [vars(module).get("forward") for module in body.modules()] == forwards
    assert not any(module.training for module in body.modules())


def test_a_forward_that_others_have_replaced_is_put_back():
    """As accelerate does for models on several devices."""
    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", vocab_size=30, **SETTINGS["llama"])
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    layer = model.base_model.layers[0]
    calls = []
    original = layer.forward

    def replaced(*inputs: Any, **more: Any) -> Any:
        calls.append(1)
        return original(*inputs, **more)

    layer.forward = replaced
    gradient(model, checkpoint=True)
    assert len(calls) == 2  # forward, and again in the backward pass
    assert layer.forward is replaced
