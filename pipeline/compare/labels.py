"""Labels of points in a panel of matplotlib that do not lie over one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# In points of 1/72 inch. Letters are bold, and about three quarters as wide as high.
SIZE = 7.0
_LETTER = 0.74 * SIZE
_DISTANCES = (8.0, 12.0, 16.0, 21.0, 26.0, 32.0, 38.0, 45.0, 52.0, 60.0)
_DIRECTIONS = 16
# Half the width of a marker, and of the line of an interval.
_MARKER, _BAR = 2.5, 1.0

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Label:
    """The text of a point, and its place in the panel's units; `low` and `high` are the ends of its
    interval."""

    x: float
    y: float
    low: float
    high: float
    text: str
    colour: str


def place_labels(axis: Any, labels: Sequence[Label]) -> None:
    """Write each label beside its point, at the nearest place that is free, with a thin line where
    it is not next to it. The limits of the panel must not change afterwards."""
    scale = 72.0 / axis.figure.dpi

    def drawn(x: float, y: float) -> tuple[float, float]:
        across, up = axis.transData.transform((x, y))
        return scale * float(across), scale * float(up)

    points = [drawn(label.x, label.y) for label in labels]
    panel = [scale * v for v in axis.get_window_extent().extents]
    taken: list[Box] = [(x - _MARKER, y - _MARKER, x + _MARKER, y + _MARKER) for x, y in points]
    for label in labels:
        (x, low), (_, high) = drawn(label.x, label.low), drawn(label.x, label.high)
        taken.append((x - _BAR, low, x + _BAR, high))
    for label, (x, y) in zip(labels, points, strict=True):
        dx, dy = _free_place(label.text, x, y, taken, panel)
        taken.append(_box(label.text, x + dx, y + dy))
        near = math.hypot(dx, dy) <= _DISTANCES[0] + 0.1
        axis.annotate(
            label.text,
            (label.x, label.y),
            xytext=(dx, dy),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=SIZE,
            color=label.colour,
            fontweight="bold",
            arrowprops=None
            if near
            else {"arrowstyle": "-", "color": label.colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 2},
        )


def _free_place(
    text: str, x: float, y: float, taken: Sequence[Box], panel: Sequence[float]
) -> tuple[float, float]:
    """The offset of the nearest free place; the one with the fewest collisions if none is."""
    best, fewest = (0.0, _DISTANCES[0]), math.inf
    for dx, dy in _offsets():
        box = _box(text, x + dx, y + dy)
        outside = box[0] < panel[0] or box[1] < panel[1] or box[2] > panel[2] or box[3] > panel[3]
        collisions = len([other for other in taken if _overlap(box, other)]) + 100 * outside
        if collisions < fewest:
            best, fewest = (dx, dy), collisions
        if not collisions:
            break
    return best


def _offsets() -> Iterator[tuple[float, float]]:
    for distance in _DISTANCES:
        for n in range(_DIRECTIONS):
            # To the right first, then to both sides of it.
            turn = (n + 1) // 2 * (-1) ** n
            angle = 2 * math.pi * turn / _DIRECTIONS
            yield distance * math.cos(angle), distance * math.sin(angle)


def _box(text: str, x: float, y: float) -> Box:
    half = _LETTER * len(text) / 2
    return (x - half, y - SIZE / 2, x + half, y + SIZE / 2)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
