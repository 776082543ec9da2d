"""Keys and values written in place, beside batches that are joined and selected anew."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from nabla_core.models.kv_buffer import KeyValueBuffer, order_of
from nabla_core.models.kv_cache import KeyValues, PrefixCache, from_cache, stack
from tests.core.models.test_kv_cache import cache_of

LAYERS = 2


def of_tokens(tokens: tuple[int, ...]) -> PrefixCache:
    """As `cache_of`, in all layers."""
    return PrefixCache(cache_of(*tokens).kv * LAYERS, tokens)


def join(a: KeyValues, b: KeyValues) -> KeyValues:
    """Two batches as one, made anew."""
    width = max(a[0].size(2), b[0].size(2))
    return [
        torch.cat([pad(t, (0, 0, width - t.size(2), 0)) for t in pair])
        for pair in zip(a, b, strict=True)
    ]


def select(kv: KeyValues, rows: list[int], width: int) -> KeyValues:
    """Some rows and their last columns, made anew."""
    return [t[rows][:, :, t.size(2) - width :] for t in kv]


def write(buffer: KeyValueBuffer, column: Tensor) -> None:
    """What a forward pass does: one more token `[B]` in each layer."""
    buffer.make_room()
    keys = column.reshape(-1, 1, 1, 1)
    for layer in range(LAYERS):
        buffer.cache.update(keys, -keys, layer)
    buffer.written()


@pytest.mark.parametrize("seed", range(8))
def test_the_buffer_is_the_batch_that_is_joined_and_selected_anew(seed: int):
    """Rows that join, grow and leave in any order; longer ones than all, and some without a
    history."""
    chance = random.Random(seed)
    buffer = KeyValueBuffer()
    rows: list[tuple[int, ...]] = []
    kv: list[Tensor] = []
    for step in range(120):
        what = chance.choice(["add", "write", "write", "write", "keep"])
        if what == "add" and len(rows) < 6:
            new = [
                tuple(chance.choices(range(1, 99), k=chance.randrange(0, 40)))
                for _ in range(chance.randrange(1, 4))
            ]
            new[0] += (1,)
            buffer.add([of_tokens(tokens) for tokens in new])
            stacked = stack([of_tokens(tokens) for tokens in new])[0]
            kv = join(kv, stacked) if rows else stacked
            rows += new
        elif what == "write" and rows:
            column = torch.arange(float(len(rows))) + 100 * step
            write(buffer, column)
            pairs = zip(kv, [column, -column] * LAYERS, strict=True)
            kv = [torch.cat([t, c.reshape(-1, 1, 1, 1)], 2) for t, c in pairs]
            rows = [(*row, int(c)) for row, c in zip(rows, column, strict=True)]
        elif what == "keep" and len(rows) > 1:
            removed = sorted(chance.sample(range(len(rows)), chance.randrange(1, len(rows))))
            order = order_of(len(rows), removed)
            rows = [rows[i] for i in order]
            width = max(map(len, rows))
            buffer.keep(order, width)
            kv = select(kv, order, width)
        if rows:
            assert buffer.width == kv[0].size(2)
            held = from_cache(buffer.cache)
            assert [t.tolist() for t in held] == [t.tolist() for t in kv]
            alone = buffer.cut(len(rows) - 1, rows[-1])
            assert alone.kv[0].flatten().tolist() == list(rows[-1])


def test_what_a_row_leaves_behind_is_not_seen_again():
    """A row of NaN has ended; a shorter one takes its place, and then a longer one comes."""
    buffer = KeyValueBuffer()
    buffer.add([of_tokens((1, 2, 3, 4, 5)), of_tokens((6,))])
    write(buffer, torch.tensor([float("nan"), 7.0]))
    buffer.keep([1], 2)
    buffer.add([of_tokens((8,))])
    buffer.add([of_tokens((1, 2, 3, 4, 5, 6))])
    assert all(t.isfinite().all() for t in from_cache(buffer.cache))
    assert from_cache(buffer.cache)[0][:, 0, :, 0].tolist() == [
        [0, 0, 0, 0, 6, 7],
        [0, 0, 0, 0, 0, 8],
        [1, 2, 3, 4, 5, 6],
    ]


def test_a_step_writes_into_the_same_memory():
    buffer = KeyValueBuffer()
    buffer.add([of_tokens((1, 2)), of_tokens((3,)), of_tokens((4,))])
    write(buffer, torch.tensor([5.0, 6.0, 7.0]))
    place = from_cache(buffer.cache)[0].untyped_storage().data_ptr()
    write(buffer, torch.tensor([8.0, 9.0, 10.0]))
    buffer.keep([0, 2], 4)
    buffer.add([of_tokens((11,))])  # there is a free row
    assert from_cache(buffer.cache)[0].untyped_storage().data_ptr() == place


def test_a_copy_of_a_row_does_not_change_with_the_batch():
    buffer = KeyValueBuffer()
    buffer.add([of_tokens((1, 2))])
    alone = buffer.cut(0, (1, 2))
    buffer.keep([0], 1)
    buffer.add([of_tokens((3, 4))])
    assert alone.kv[0].flatten().tolist() == [1, 2]


def test_the_last_rows_take_the_places_of_those_that_leave():
    assert order_of(5, [1]) == [0, 4, 2, 3]
    assert order_of(5, [0, 4]) == [3, 1, 2]
    assert order_of(4, [2, 3]) == [0, 1]
    assert order_of(3, [0, 1, 2]) == []
