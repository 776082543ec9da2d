from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.integrations import sdpa_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

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
