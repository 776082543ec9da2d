"""Prefix caches: keys and values of sequences that a model has read, to continue from.

`KeyValues` is a list of `2 * layers` tensors `[B, heads, length, head size]`, keys and values in
turn: in this form rows can be cut, padded and joined. Rows of a batch end at the same column.
Shorter ones are padded on the left, and a mask hides the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

KeyValues = list[Tensor]


@dataclass(frozen=True, eq=False)
class PrefixCache:
    """Keys and values of one sequence of tokens; batch dimension 1.

    `guide`: of a response that was drawn with a guide, what the guide's model has read of it.
    """

    kv: KeyValues
    tokens: tuple[int, ...]
    guide: PrefixCache | None = None

    @property
    def length(self) -> int:
        return len(self.tokens)

    def shared(self, tokens: Sequence[int]) -> PrefixCache:
        """The cache of the longest prefix common with `tokens`: a view, not a copy, without
        `guide`."""
        # zip ends with the shorter one; without a difference all of it is shared.
        pairs = zip(self.tokens, tokens, strict=False)
        differ = (n for n, (a, b) in enumerate(pairs) if a != b)
        length = next(differ, min(len(self.tokens), len(tokens)))
        return PrefixCache([t[:, :, :length] for t in self.kv], self.tokens[:length])


def to_cache(kv: KeyValues) -> DynamicCache:
    """A transformers cache holding these tensors (not copied)."""
    return DynamicCache([(kv[i], kv[i + 1]) for i in range(0, len(kv), 2)])


def from_cache(cache: DynamicCache) -> KeyValues:
    """The tensors a cache holds after a forward pass."""
    return [t for layer in cache.layers for t in (layer.keys, layer.values)]


def stack(caches: list[PrefixCache]) -> tuple[KeyValues, Tensor]:
    """Join single rows into a left-padded batch. Returns it and the lengths, int64 `[B]`."""
    width = max(m.length for m in caches)
    joined = [
        torch.cat([_widened(m.kv[i], width) for m in caches]) for i in range(len(caches[0].kv))
    ]
    return joined, torch.tensor([m.length for m in caches], device=joined[0].device)


def cut(kv: KeyValues, row: int, end: int, tokens: Sequence[int]) -> PrefixCache:
    """The columns of one row up to `end` that hold `tokens`; a copy, so the batch can be freed."""
    start = end - len(tokens)
    return PrefixCache([t[row : row + 1, :, start:end].detach().clone() for t in kv], tuple(tokens))


def left_mask(lengths: Tensor, width: int) -> Tensor:
    """int64 `[B, width]`: 1 on each row's last `lengths` columns."""
    columns = torch.arange(width, device=lengths.device)
    return (columns >= width - lengths[:, None]).long()


def _widened(t: Tensor, width: int) -> Tensor:
    return pad(t, (0, 0, width - t.size(2), 0)) if t.size(2) < width else t
