"""What a model has read of each row of a rollout batch: keys and values, to decode from.

The LM has one such batch, and a guide that reads responses with a model of its own another.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from nabla_core.models.attention import grouped_attention
from nabla_core.models.kv_buffer import KeyValueBuffer
from nabla_core.models.kv_cache import PrefixCache, from_cache, left_mask
from nabla_core.models.loading import LanguageModel


class Histories:
    """The histories of a batch, left-padded: all end at the last column."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._buffer = KeyValueBuffer()
        # Tokens in each history: on the device, and here, where reading them waits for nothing.
        self._lengths = torch.empty(0, dtype=torch.int64, device=model.device)
        self._counts: list[int] = []

    def add(self, caches: Sequence[PrefixCache]) -> None:
        """Join rows to the batch, behind those that are in it."""
        self._buffer.add(caches)
        counts = [cache.length for cache in caches]
        self._counts += counts
        self._lengths = torch.cat([self._lengths, self._lengths.new_tensor(counts)])

    def feed(self, tokens: Sequence[int]) -> Tensor:
        """Read one more token in each row; returns the hidden states behind them, `[B, D]`."""
        model, buffer = self._model, self._buffer
        buffer.make_room()
        lengths = self._lengths + 1
        # One column: the token of each row, at the position behind its own history.
        with grouped_attention():
            hidden: Tensor = model.body(
                input_ids=torch.tensor(tokens, device=model.device)[:, None],
                attention_mask=left_mask(lengths, buffer.width + 1),
                position_ids=self._lengths[:, None],
                past_key_values=buffer.cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
        buffer.written()
        self._lengths = lengths
        self._counts = [count + 1 for count in self._counts]
        return hidden

    def cut(self, row: int, tokens: tuple[int, ...]) -> PrefixCache:
        """A copy of the history of one row, which is `tokens`."""
        return self._buffer.cut(row, tokens)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, which are in this order then."""
        if not rows:
            self.clear()
            return
        self._counts = [self._counts[row] for row in rows]
        self._lengths = self._lengths[torch.tensor(rows, device=self._lengths.device)]
        # The batch is as wide as its longest history: columns that only the removed rows used
        # are dropped.
        self._buffer.keep(rows, max(self._counts))

    def clear(self) -> None:
        self._buffer.clear()
        self._lengths, self._counts = self._lengths[:0], []


def prefix_caches(
    model: LanguageModel,
    sequences: Sequence[tuple[int, ...]],
    known: Sequence[PrefixCache | None],
) -> tuple[list[PrefixCache], list[int]]:
    """The cache of each sequence, and the indices of those that were read for it.

    `known`: caches that may hold a sequence already. Equal sequences are read once.
    """
    unread: dict[tuple[int, ...], int] = {}
    found: list[PrefixCache | None] = []
    for index, (sequence, cache) in enumerate(zip(sequences, known, strict=True)):
        shared = cache.shared(sequence) if cache is not None else None
        if shared is not None and shared.length == len(sequence):
            found.append(shared)
        else:
            found.append(None)
            unread.setdefault(sequence, index)
    read = dict(zip(unread, _read(model, list(unread)), strict=True)) if unread else {}
    caches = [
        read[sequence] if cache is None else cache
        for sequence, cache in zip(sequences, found, strict=True)
    ]
    return caches, list(unread.values())


def _read(model: LanguageModel, sequences: list[tuple[int, ...]]) -> list[PrefixCache]:
    """Keys and values of whole sequences, read as one left-padded batch."""
    width = max(1, *(len(s) for s in sequences))
    # A one-token prompt has nothing before its pending token. One column of padding, masked like
    # any other, takes the place of its empty history.
    ids = torch.tensor([[0] * (width - len(s)) + list(s) for s in sequences])
    lengths = torch.tensor([len(s) for s in sequences])
    mask = left_mask(lengths, width)
    # Positions count from each row's first real token.
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    device = model.device
    cache = DynamicCache()
    with grouped_attention():
        model.body(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            past_key_values=cache,
            use_cache=True,
        )
    kv = from_cache(cache)
    return [
        PrefixCache([t[i : i + 1, :, width - len(s) :] for t in kv], s)
        for i, s in enumerate(sequences)
    ]
