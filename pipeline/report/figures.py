"""Figures of the rows of a run: means with intervals, distributions, rows over time.

Intervals are over prompts: the samples of one prompt are not independent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.intervals import interval
from pipeline.report import index
from pipeline.report.index import Part

Array = npt.NDArray[Any]
BINS, TIMES = 32, 48


def figures(part: Part) -> dict[str, Any]:
    """What the overview shows of the rows of one run."""
    columns = part.columns
    alive = (columns["flags"] & index.DEAD) == 0
    return {
        "rows": int(alive.sum()),
        "dead": int((~alive).sum()),
        "prompts": len(np.unique(part.prompts)),
        "reward": change(columns["base"], columns["reward"], part.prompts),
        "accuracy": change(*verdicts(columns["flags"]), part.prompts),
        "verdicts": _verdict_counts(columns["flags"]),
        "proposed": int(columns["proposed"].sum()),
        "accepted": int(columns["accepted"].sum()),
        "revised": int((columns["accepted"] > 0).sum()),
        "changed": int(((columns["flags"] & index.CHANGED) > 0).sum()),
        "answered": int(((columns["flags"] & index.ANSWERED) > 0).sum()),
        "cut": int(((columns["flags"] & index.CUT) > 0).sum()),
        "flops": _mean(columns["flops"][alive]),
        "seconds": _mean(columns["seconds"][alive]),
        "tokens": _mean(columns["tokens"][alive].astype("f8")),
        "distributions": _distributions(columns, alive),
        "times": _times(columns["created"]),
    }


def verdicts(flags: Array) -> tuple[Array, Array]:
    """Of the first and the last response: 1 right, 0 wrong, NaN not graded."""
    pairs = ((index.BASE_RIGHT, index.BASE_WRONG), (index.RIGHT, index.WRONG))
    before, after = (
        np.where(flags & right, 1.0, np.where(flags & wrong, 0.0, np.nan)) for right, wrong in pairs
    )
    return before, after


def change(before: Array, after: Array, prompts: Array) -> dict[str, Any] | None:
    """The mean before and after, and the mean change with its 95 % interval over prompts, of the
    rows that have both. None where there are none."""
    both = ~(np.isnan(before) | np.isnan(after))
    if not both.any():
        only = ~np.isnan(after)
        return {"after": _mean(after[only]), "n": int(only.sum())} if only.any() else None
    old, new = before[both].astype("f8"), after[both].astype("f8")
    mean, low, high = interval(by_prompt(new - old, prompts[both]).tolist())
    return {
        "before": float(old.mean()), "after": float(new.mean()), "change": mean, "low": low,
        "high": high, "n": int(both.sum()),
    }  # fmt: skip


def by_prompt(values: Array, prompts: Array) -> Array:
    """The mean of the values of each prompt."""
    _, places = np.unique(prompts, return_inverse=True)
    means: Array = np.bincount(places, weights=values) / np.bincount(places)
    return means


def _mean(values: Array) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.astype("f8").mean()) if len(known) else None


def _verdict_counts(flags: Array) -> dict[str, int]:
    before, after = verdicts(flags)
    counts = {
        "right to right": (before == 1) & (after == 1),
        "wrong to right": (before == 0) & (after == 1),
        "right to wrong": (before == 1) & (after == 0),
        "wrong to wrong": (before == 0) & (after == 0),
    }
    return {name: int(chosen.sum()) for name, chosen in counts.items()}


def _distributions(columns: dict[str, Array], alive: Array) -> list[dict[str, Any]]:
    of = {name: values[alive].astype("f8") for name, values in columns.items()}
    # Of methods that draw one response, the first response is the last one.
    moved = bool((columns["flags"] & index.CHANGED).any() or of["proposed"].any())
    rewards = {"first": of["base"], "last": of["reward"]} if moved else {"reward": of["reward"]}
    shown = [
        histogram("Reward", "judge's score", rewards),
        histogram("Gain in reward", "last minus first", {"gain": of["reward"] - of["base"]})
        if moved
        else None,
        histogram("Length of the response", "tokens", {"length": of["tokens"]}),
        histogram("Revisions proposed and accepted", "revisions of a trace",
                  {"proposed": of["proposed"], "accepted": of["accepted"]})
        if of["proposed"].any()
        else None,
        _costs(of["flops"]),
        histogram("Mean log-probability of the response", "nats a token", {"mean": of["logp"]}),
    ]  # fmt: skip
    return [one for one in shown if one is not None]


def _costs(flops: Array) -> dict[str, Any] | None:
    """Bins of the logarithm, and the mean of the numbers themselves."""
    with np.errstate(divide="ignore"):
        found = histogram("Cost", "FLOPs of a trace, logarithmic", {"cost": np.log10(flops)})
    return found and {**found, "powers": "FLOP", "means": {"cost": _mean(flops)}}


def histogram(title: str, unit: str, named: dict[str, Array]) -> dict[str, Any] | None:
    """Counts of each series in the same bins; None where no series has a value."""
    finite = {name: values[np.isfinite(values)] for name, values in named.items()}
    every = np.concatenate(list(finite.values()))
    if not len(every):
        return None
    low, high = float(every.min()), float(every.max())
    whole = bool((every == np.floor(every)).all()) and high - low < BINS
    if whole:
        edges = np.arange(low, high + 2) - 0.5
    else:
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    return {
        "title": title,
        "unit": unit,
        "edges": [float(e) for e in edges],
        "series": {n: np.histogram(v, edges)[0].tolist() for n, v in finite.items()},
        "means": {n: _mean(v) for n, v in finite.items()},
    }


def _times(created: Array) -> dict[str, Any] | None:
    """Rows committed until each of some times, in seconds since 1970."""
    if not len(created):
        return None
    times = np.sort(created.astype("i8"))
    at = np.linspace(times[0], max(times[-1], times[0] + 1), TIMES)
    return {
        "at": [round(float(t)) for t in at],
        "rows": np.searchsorted(times, at, side="right").tolist(),
    }
