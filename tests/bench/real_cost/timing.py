"""What `tests.bench.real_cost` measures with, and how much of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
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


def over(ours: Callable[[], Any], theirs: Callable[[], Any], plan: Plan) -> tuple[float, float]:
    """Median seconds of both, measured in turns after a warm-up of each."""
    ours(), theirs()
    times = [
        (seconds(ours, plan.device)[0], seconds(theirs, plan.device)[0]) for _ in range(plan.rounds)
    ]
    mine, other = zip(*times, strict=True)
    return statistics.median(mine), statistics.median(other)


def row(mine: float, other: float, **details: Any) -> tuple[float, dict[str, Any]]:
    """A ratio as `real_cost.show` prints it."""
    return mine / other, {"ours": f"{mine:.4g} s", "plain": f"{other:.4g} s", **details}
