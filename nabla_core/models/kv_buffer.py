"""Keys and values of a batch that is decoded a token at a time, written in place.

A cache of transformers joins all keys and values to those of the new token at every step. Here they
are views of larger tensors: a step writes one column behind the others, a row that joins is written
alone, and where rows leave only those move that fill their places.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from nabla_core.models.kv_cache import KeyValues, PrefixCache

# Columns that are free behind the last one when tensors are made: at least so many, and this share
# of the width. Rows are copied once in as many steps.
_LEAST_FREE = 32
_FREE = 0.25


class _Layer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """A layer of a cache whose keys and values are views of tensors with free columns behind."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.stores = (keys, values)
        self.lazy_initialization(keys, values)

    def view(self, rows: int, start: int, end: int) -> None:
        """Show these rows and columns."""
        self._rows, self._start, self._end = rows, start, end
        self.keys, self.values = (store[:rows, :, start:end] for store in self.stores)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        end = self._end + key_states.size(2)
        for store, states in zip(self.stores, (key_states, value_states), strict=True):
            store[: self._rows, :, self._end : end] = states
        self.view(self._rows, self._start, end)
        return self.keys, self.values


class KeyValueBuffer:
    """Keys and values of the rows of a batch, left-padded with zeros: all end at the last column.

    `cache` is the transformers cache to decode with: it has room for one more token after
    `make_room`.
    """

    def __init__(self) -> None:
        self.cache = DynamicCache()
        self._layers: list[_Layer] = []
        self._rows = 0
        self._start = self._end = 0

    @property
    def width(self) -> int:
        """Columns in use."""
        return self._end - self._start

    def add(self, caches: Sequence[PrefixCache]) -> None:
        """Write rows behind those that are in the batch."""
        rows, width = self._rows + len(caches), max(self.width, *(c.length for c in caches))
        fits = bool(self._layers) and rows <= self._layers[0].stores[0].size(0)
        if not fits or width > self._end:
            self._move(caches[0].kv, rows, width)
        start = self._end - width
        for number, store in enumerate(self._stores()):
            # What was left here is no number that a mask may hide: 0 * NaN is NaN.
            store[: self._rows, :, start : self._start] = 0
            store[self._rows : rows, :, start : self._end] = 0
            for row, cache in enumerate(caches, self._rows):
                store[row, :, self._end - cache.length : self._end] = cache.kv[number][0]
        self._show(rows, start, self._end)

    def make_room(self) -> None:
        """See to it that one more column can be written."""
        if self._end == self._layers[0].stores[0].size(2):
            like = [store[:1] for store in self._stores()]
            self._move(like, self._rows, self.width)

    def written(self) -> None:
        """A forward pass has written one more column."""
        self._end += 1

    def cut(self, row: int, tokens: tuple[int, ...]) -> PrefixCache:
        """A copy of the last columns of a row, which hold `tokens`."""
        start = self._end - len(tokens)
        return PrefixCache(
            [store[row : row + 1, :, start : self._end].clone() for store in self._stores()], tokens
        )

    def keep(self, rows: Sequence[int], width: int) -> None:
        """Keep these rows, in this order, and their last `width` columns. See `order_of`."""
        moved = [(new, old) for new, old in enumerate(rows) if new != old]
        if moved:
            device = self._layers[0].stores[0].device
            to, source = torch.tensor(moved, device=device).T
            for store in self._stores():
                used = store[:, :, self._start : self._end]
                used.index_copy_(0, to, used.index_select(0, source))
        self._show(len(rows), self._end - width, self._end)

    def clear(self) -> None:
        self.cache, self._layers = DynamicCache(), []
        self._rows = self._start = self._end = 0

    def _move(self, like: KeyValues, rows: int, width: int) -> None:
        """Take over what is there into new tensors, for `rows` and `width` and some free columns.
        `like` are one row's."""
        columns = columns_for(width)
        stores = [t.new_zeros(rows, t.size(1), columns, t.size(3)) for t in like]
        for store, old in zip(stores, self._stores(), strict=False):
            used = old[: self._rows, :, self._start : self._end]
            store[: self._rows, :, width - self.width : width] = used
        self._start, self._end = width - self.width, width
        self._layers = [_Layer(*stores[i : i + 2]) for i in range(0, len(stores), 2)]
        self.cache.layers = list(self._layers)
        self._show(self._rows, self._start, self._end)

    def _show(self, rows: int, start: int, end: int) -> None:
        self._rows, self._start, self._end = rows, start, end
        for layer in self._layers:
            layer.view(rows, start, end)

    def _stores(self) -> KeyValues:
        return [store for layer in self._layers for store in layer.stores]


def columns_for(width: int) -> int:
    """The columns that tensors get when they are made for so many."""
    return width + max(_LEAST_FREE, int(_FREE * width))


def order_of(count: int, removed: Sequence[int]) -> list[int]:
    """`count` rows without the removed ones, in an order that moves fewest: the last rows fill the
    places of those that leave."""
    remaining = count - len(removed)
    gone = set(removed)
    last = (row for row in range(remaining, count) if row not in gone)
    return [next(last) if row in gone else row for row in range(remaining)]
