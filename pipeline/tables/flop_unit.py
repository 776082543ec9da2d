"""The unit of FLOPs in which yields are shown. Nothing here imports pyarrow: commands show it."""

from __future__ import annotations

from collections.abc import Iterable

_UNITS = ("GFLOP", "TFLOP", "PFLOP", "EFLOP")


def flop_unit(per_gflop: Iterable[float | None]) -> tuple[str, float]:
    """The unit for yields that are given for 1 GFLOP, and the factor that makes them those for 1 of
    it: the smallest in which the largest of them is at least .1, since a large model answers one
    prompt in many GFLOPs."""
    largest = max((one for one in per_gflop if one), default=1.0)
    power = next((n for n in range(len(_UNITS)) if largest * 1000.0**n >= 0.1), len(_UNITS) - 1)
    return _UNITS[power], 1000.0**power
