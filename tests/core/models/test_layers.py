"""Models whose layers or positions cannot be served are refused by name, or limited."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nabla_core.errors import HeadError, ModelError
from nabla_core.models.forward import Reading, read
from nabla_core.models.layers import context_length
from tests.core.families.catalogue import LANGUAGE_MODELS, REWARD_MODELS
from tests.core.families.tiny_models import as_lm, as_reward_model, causal_lm, classifier

LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [4.0, 5.0, 6.0, 7.0],
    "original_max_position_embeddings": 12,
    "factor": 4.0,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
# The sizes of two models that change beyond 12 tokens.
CHANGING: dict[str, dict[str, Any]] = {
    "phi3": {"rope_parameters": LONGROPE, "original_max_position_embeddings": 12},
    "llama": {"rope_parameters": DYNAMIC, "max_position_embeddings": 12},
}


@pytest.mark.parametrize("kind", CHANGING)
def test_the_context_ends_where_rotary_embeddings_would_change(kind: str):
    assert context_length(causal_lm(kind, **CHANGING[kind])) == 12


def test_a_context_that_was_extended_once_for_all_lengths_is_used_in_full():
    fixed = {**LONGROPE, "rope_type": "yarn"}
    assert context_length(causal_lm("llama", rope_parameters=fixed)) == 64


def test_the_context_is_that_of_the_text_and_of_attention_biases():
    assert context_length(causal_lm("mpt", max_seq_len=16)) == 16
    assert context_length(causal_lm("bloom", max_position_embeddings=...)) == 1 << 30


@pytest.mark.parametrize("kind", CHANGING)
@torch.no_grad()
def test_rotary_embeddings_that_change_with_length_are_right_alone_and_in_a_batch(kind: str):
    """A row with a long history and a row with much to read: positions of the padding behind the
    first go beyond the context, and the model would change for the whole batch."""
    model = causal_lm(kind, **CHANGING[kind])
    tokens = tuple(range(3, 15))
    whole = model.model(input_ids=torch.tensor([tokens])).last_hidden_state[0]
    longer = model.model(input_ids=torch.tensor([[*tokens, 15]])).last_hidden_state[0, :12]
    assert (whole - longer).abs().max() > 0.01
    lm = as_lm(model)
    cache = read(lm, [Reading(tokens)], gradient=False, return_cache=True)
    rows = [Reading(tokens, cache.prefix_cache(0, 10)), Reading(tokens[:-1])]
    batch = read(lm, rows, gradient=False, return_cache=True).hidden
    torch.testing.assert_close(batch[0, :2], whole[-2:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(batch[1], whole[:-1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_learned_positions_end_with_the_context_in_a_batch():
    """As above: GPT-2 has no embedding of a position beyond its context."""
    lm = as_lm(causal_lm("gpt2", max_position_embeddings=16))
    tokens = tuple(3 + n for n in range(16))
    whole = read(lm, [Reading(tokens)], gradient=False, return_cache=True)
    rows = [Reading(tokens, whole.prefix_cache(0, 14)), Reading(tokens[:-1])]
    batch = read(lm, rows, gradient=False, return_cache=False).hidden
    torch.testing.assert_close(batch[0, :2], whole.hidden[0, -2:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["gemma2", "xglm", "cohere", "granite", "qwen3_moe"])
def test_models_in_bf16_are_not_taken_for_others(kind: str):
    """Sums are rounded differently in a batch, and factors are rounded too."""
    as_lm(causal_lm(kind, **LANGUAGE_MODELS[kind]).bfloat16())
    if kind in REWARD_MODELS:
        as_reward_model(classifier(kind, **REWARD_MODELS[kind]).bfloat16())


def test_what_a_models_code_raises_is_named():
    model = causal_lm("llama")
    model.model.layers[0].self_attn.forward = lambda **_: model.config.no_such_key
    with pytest.raises(HeadError, match=r"llama: LlamaForCausalLM cannot be run .*AttributeError"):
        as_lm(model)


def test_hidden_states_that_depend_on_the_batch_are_refused():
    model = causal_lm("llama")
    whole = model.model.norm.forward
    model.model.norm.forward = lambda states: (
        whole(states) * (1 + states.abs().mean((0, 2))[:, None])
    )
    with pytest.raises(HeadError, match="other hidden states behind a cache of keys and values"):
        as_lm(model)


@pytest.mark.parametrize("kind", ["lfm2", "minimax"])
def test_layers_without_keys_and_values_are_named(kind: str):
    layers = {"lfm2": ["conv", "full_attention"], "minimax": ["full_attention", "linear_attention"]}
    other = layers[kind][kind == "minimax"]
    sentence = f"{kind}: {kind} has {other} layers, which keep no plain cache of keys and values"
    with pytest.raises(ModelError, match=sentence):
        as_lm(causal_lm(kind, layer_types=layers[kind]))
    if kind == "minimax":
        with pytest.raises(ModelError, match=sentence):
            as_reward_model(classifier(kind, layer_types=layers[kind]))
