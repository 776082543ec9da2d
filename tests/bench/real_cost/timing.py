"""What `tests.bench.real_cost` measures with, and how much of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Plan:
    """Where, how often and how much: `batches` of greedy decoding, `limit` tokens a response."""

    device: str
    dtype: torch.dtype
    rounds: int
    batches: tuple[int, ...] = (1, 8, 32)
    limit: int = 32
    prompts: int = 4


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure and what stands beside it."""

    name: str
    figure: float
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """Seconds of two sides that were measured in turns: medians, and the ratio of each turn."""

    mine: float
    other: float
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median of the ratios: what else the machine does falls on both sides of a turn."""
        return statistics.median(self.ratios)

    @property
    def spread(self) -> str:
        """The smallest and the largest ratio."""
        return spread_of(self.ratios)


def spread_of(ratios: tuple[float, ...]) -> str:
    """The smallest and the largest of some figures."""
    return f"{min(ratios):.3g} to {max(ratios):.3g}"


def seconds(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Seconds of a piece of work (the module says which), and what it returns."""
    cuda = device.startswith("cuda")
    clock = time.perf_counter if cuda else time.process_time
    if cuda:
        torch.cuda.synchronize()
    started = clock()
    result = work()
    if cuda:
        torch.cuda.synchronize()
    return clock() - started, result


def compared(ours: Callable[[], Any], theirs: Callable[[], Any], plan: Plan) -> Compared:
    """Both sides measured in turns, after a warm-up of each."""
    ours(), theirs()
    times = [
        (seconds(ours, plan.device)[0], seconds(theirs, plan.device)[0]) for _ in range(plan.rounds)
    ]
    mine, other = zip(*times, strict=True)
    ratios = tuple(a / b for a, b in times)
    return Compared(statistics.median(mine), statistics.median(other), ratios)


def row(name: str, found: Compared, **details: Any) -> Row:
    """The ratio of two sides as a line of the table."""
    shown = {"spread": found.spread, "ours": f"{found.mine:.4g} s", "plain": f"{found.other:.4g} s"}
    return Row(name, found.ratio, {**shown, **details})
