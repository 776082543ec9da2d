"""Prefix caches as plain tensors: numbers say which token a column belongs to."""

from __future__ import annotations

import torch
from torch import Tensor

from nabla_core.models.kv_cache import (
    PrefixCache,
    cut,
    from_cache,
    left_mask,
    stack,
    to_cache,
)


def cache_of(*tokens: int) -> PrefixCache:
    """Keys hold the tokens themselves, values their negatives."""
    keys = torch.tensor(tokens, dtype=torch.float32).reshape(1, 1, -1, 1)
    return PrefixCache([keys, -keys], tokens)


def columns(t: Tensor) -> list[list[float]]:
    return t[:, 0, :, 0].tolist()


def test_the_shared_prefix_ends_where_tokens_differ():
    cache = cache_of(5, 6, 7)
    assert cache.shared((5, 6, 9, 7)).tokens == (5, 6)
    assert cache.shared((5, 6, 7, 8)).tokens == (5, 6, 7)
    assert cache.shared((5,)).tokens == (5,)
    assert cache.shared((9,)).length == 0
    assert columns(cache.shared((5, 6)).kv[1]) == [[-5, -6]]


def test_rows_are_stacked_with_padding_on_the_left():
    kv, lengths = stack([cache_of(1, 2, 3), cache_of(4)])
    assert columns(kv[0]) == [[1, 2, 3], [0, 0, 4]]
    assert lengths.tolist() == [3, 1]
    assert left_mask(lengths, 3).tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_row_is_cut_out_as_a_copy():
    kv, _ = stack([cache_of(1, 2, 3), cache_of(4)])
    alone = cut(kv, 1, 3, (4,))
    kv[0].zero_()
    assert (alone.tokens, columns(alone.kv[0])) == ((4,), [[4]])


def test_a_transformers_cache_holds_the_same_tensors():
    kv = cache_of(1, 2).kv
    back = from_cache(to_cache(kv))
    assert [columns(t) for t in back] == [columns(t) for t in kv]
