"""Means over prompts with 95 % normal intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence


def normal(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % normal interval; 0 wide where there is one value."""
    n = len(values)
    mean = sum(values) / n
    variance = sum((v - mean) ** 2 for v in values) / max(1, n - 1)
    return mean, 1.96 * math.sqrt(variance / n)


def bounds(values: Sequence[float]) -> tuple[float, float, float]:
    """The same as mean, low and high."""
    mean, half = normal(values)
    return mean, mean - half, mean + half
