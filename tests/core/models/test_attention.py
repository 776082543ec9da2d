from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.integrations import sdpa_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from nabla_core.models import attention
from nabla_core.models.attention import grouped_attention
from tests.core.families.tiny_models import causal_lm

# Four query heads read two heads of keys and values. Two rows, the second padded on the left.
IDS = torch.tensor([[3, 4, 5, 6, 7, 8, 9], [0, 0, 0, 10, 11, 12, 13]])
MASK = (IDS != 0).long()


def hidden_states(model: Any) -> Tensor:
    """Of a prompt of six tokens, and of one token behind it."""
    body, cache = model.base_model, DynamicCache()
    first = body(IDS[:, :-1], attention_mask=MASK[:, :-1], past_key_values=cache).last_hidden_state
    last = body(IDS[:, -1:], attention_mask=MASK, past_key_values=cache).last_hidden_state
    return torch.cat([first, last], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral"])
def test_hidden_states_are_equal_bit_by_bit_with_and_without_copies(
    kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = causal_lm(kind).to(dtype)
    with torch.inference_mode():
        expected = hidden_states(model)
        monkeypatch.setattr(sdpa_attention, "repeat_kv", copied)
        with grouped_attention():
            found = hidden_states(model)
        assert torch.equal(found, expected)
        # Outside of it transformers' own function is back.
        with pytest.raises(AssertionError, match="copied"):
            hidden_states(model)


@pytest.mark.parametrize(
    ("dtype", "query"), [(torch.float32, (2, 4, 1)), (torch.bfloat16, (2, 2, 2))]
)
def test_in_bfloat16_a_new_token_is_one_query_for_each_head_of_keys(
    dtype: torch.dtype, query: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    kernel = attention.scaled_dot_product_attention

    def recorded(query: Tensor, *args: Any, **settings: Any) -> Tensor:
        shapes.append(tuple(query.shape[:3]))
        found: Tensor = kernel(query, *args, **settings)
        return found

    monkeypatch.setattr(attention, "scaled_dot_product_attention", recorded)
    model = causal_lm("llama").to(dtype)
    with torch.inference_mode(), grouped_attention():
        hidden_states(model)
    layers = model.config.num_hidden_layers
    assert shapes == [(2, 4, 6)] * layers + [query] * layers


def copied(*_: object) -> Tensor:
    raise AssertionError("keys or values are copied")


def test_with_a_gradient_it_changes_nothing() -> None:
    model = causal_lm("llama")
    embeddings = model.get_input_embeddings()(IDS).detach().requires_grad_()

    def gradient() -> Tensor:
        output = model.base_model(inputs_embeds=embeddings, attention_mask=MASK)
        (found,) = torch.autograd.grad(output.last_hidden_state.square().sum(), embeddings)
        return found

    expected = gradient()
    with grouped_attention():
        assert torch.equal(gradient(), expected)


def test_an_error_within_leaves_the_function_of_transformers() -> None:
    with pytest.raises(ValueError, match="within"), grouped_attention():
        raise ValueError("within")
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention.sdpa_attention_forward
