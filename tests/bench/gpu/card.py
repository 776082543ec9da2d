"""What scripts for a GPU share: a command line, sizes, and a clock for device work."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from tests.bench.arms import quiet
from tests.bench.shapes import HALF_B, ONE_AND_A_HALF_B, TINY, Size

P = TypeVar("P")


@dataclass(frozen=True)
class Plan:
    """Where and how large."""

    device: str
    dtype: torch.dtype
    sizes: tuple[Size, ...]
    tokens: int
    literal_tokens: int
    matmul: int


CARD = Plan("cuda", torch.bfloat16, (HALF_B, ONE_AND_A_HALF_B), 512, 128, 8192)
_SMALL = replace(TINY, vocabulary=2048)
REHEARSAL = Plan("cpu", torch.float32, (_SMALL,), 32, 16, 256)


def run_script(
    module: str, measure: Callable[[P], dict[str, Any]], *, card: P, rehearsal: P
) -> None:
    """The command line of a script for a GPU: measures `card`, or `rehearsal` with `--rehearse`,
    and prints the figures as the last line."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA GPU; none is visible (try --rehearse)")
    if options.rehearse:
        quiet()
    line = json.dumps(measure(rehearsal if options.rehearse else card))
    if options.output:
        options.output.write_text(line + "\n")
    print(line)


def matmul_rate(plan: Plan) -> float:
    """FLOP/s of a cubic product of random matrices."""
    n = plan.matmul
    a, b = (torch.randn(n, n, device=plan.device, dtype=plan.dtype) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b, repeats=20)


def synchronize() -> None:
    """Wait for the card, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], Any], repeats: int = 7) -> float:
    """Median seconds of a piece of device work, after two warm-ups."""
    times = []
    for i in range(repeats + 2):
        synchronize()
        started = time.perf_counter()
        work()
        synchronize()
        if i >= 2:
            times.append(time.perf_counter() - started)
    return statistics.median(times)
