"""Means with 95 % normal intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Interval(NamedTuple):
    """A mean and the bounds of its 95 % normal interval."""

    mean: float
    low: float
    high: float


def normal(values: Sequence[float]) -> tuple[float, float]:
    """The mean and half the width of its 95 % normal interval, which is 0 for one value."""
    n = len(values)
    mean = sum(values) / n
    variance = sum((v - mean) ** 2 for v in values) / max(1, n - 1)
    return mean, 1.96 * math.sqrt(variance / n)


def interval(values: Sequence[float]) -> Interval:
    """The mean with its bounds."""
    mean, half = normal(values)
    return Interval(mean, mean - half, mean + half)
