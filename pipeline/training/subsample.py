"""A part of the data that stands for all of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def subsample(items: Sequence[T], size: int, seed: int) -> list[T]:
    """At most `size` items in their order, drawn from all of them: the first ones alone would be
    of the first source only."""
    if len(items) <= size:
        return list(items)
    return [items[n] for n in sorted(random.Random(seed).sample(range(len(items)), size))]
