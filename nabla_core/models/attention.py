"""Attention without copies of keys and values.

In grouped-query attention several query heads read one head of keys and values. Under a mask
transformers copies that head for each of them, in every layer and at every step: a GPU's fused
kernels ask for it. A CPU's kernel reads the one head from where it is, and gives the same numbers.

In bfloat16 that kernel also converts the layout of keys and values, once for each query head, which
took most of the attention's time in a step of decoding. There the heads of a group are given as the
tokens of one query: it converts once, and differs by rounding at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_KERNEL = "sdpa"


@contextmanager
def grouped_attention() -> Iterator[None]:
    """Within it, models whose attention is transformers' `sdpa` copy no keys and values on a CPU.

    Models with another kernel, passes with a gradient and GPUs are as they are elsewhere.
    """
    # The table and not the models is changed: some models ask for the name of their kernel.
    before = ALL_ATTENTION_FUNCTIONS[_KERNEL]
    ALL_ATTENTION_FUNCTIONS[_KERNEL] = _grouped if before is sdpa_attention_forward else before
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS[_KERNEL] = before


def _grouped(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """transformers' `sdpa_attention_forward`, for heads `[B, heads, tokens, head size]`."""
    # Without a mask transformers does not copy either.
    if attention_mask is None or not _is_served(query, key, value, settings):
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **settings
        )
        return result
    group = query.size(1) // key.size(1)
    # One new token sees the same keys in all heads, so the heads of a group can be one query. In
    # float32 it gains nothing.
    together = query.size(2) == 1 == attention_mask.size(1) and query.dtype == torch.bfloat16
    output = scaled_dot_product_attention(
        query.unflatten(1, (-1, group)).flatten(2, 3) if together else query,
        key,
        value,
        attn_mask=attention_mask.expand(-1, -1, group, -1) if together else attention_mask,
        scale=settings.get("scaling"),
        enable_gqa=not together,
    )
    if together:
        output = output.reshape(query.shape)
    return output.transpose(1, 2).contiguous(), None


def _is_served(query: Tensor, key: Tensor, value: Tensor, settings: dict[str, Any]) -> bool:
    """Whether the CPU's fused kernel reads these heads in place."""
    return (
        query.device.type == "cpu"
        and query.size(1) > key.size(1)
        and key.size(-1) == value.size(-1)
        # With a gradient the fused kernel is not used, and the other one copies.
        and not torch.is_grad_enabled()
        and not settings.get("dropout")
        and settings.get("position_bias") is None
        and settings.get("cache") is None
    )
