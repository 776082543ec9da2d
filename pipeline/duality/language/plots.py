"""Plots of parts embedded and policy, from their findings."""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from pipeline.duality.continuous.plots import COLOURS
from pipeline.duality.findings import Book, Spread
from pipeline.duality.language.plane import above

KL, LOW, HIGH = (
    "KL to the reference",
    "KL to the reference, at least",
    "KL to the reference, at most",
)


def plane(book: Book) -> Any:
    """Reward against KL, and against accuracy, both above the reference's on the same prompts;
    means over seeds with 95 % intervals."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6), sharey=True)
    left.set_xscale("function", functions=(_root, _square))
    _frontier(left, book)
    arms = [a for a in dict.fromkeys(f.arm for f in book.findings) if not a.startswith("pi*")]
    drawn = [arm for arm in arms if _number(book, arm, "E[r]", over=True) is not None]
    for k, arm in enumerate(drawn):
        reward, accuracy = (
            _number(book, arm, "E[r]", over=True),
            _number(book, arm, "accuracy", over=True),
        )
        assert reward is not None
        look = {
            "color": COLOURS[k % len(COLOURS)],
            "marker": "osD^vPX*"[k % 8],
            "markersize": 7,
            "capsize": 2,
            "linestyle": "none",
        }
        exact, low, high = (_number(book, arm, check) for check in (KL, LOW, HIGH))
        if exact is not None:
            left.errorbar(
                exact.mean, reward.mean, xerr=exact.half, yerr=reward.half, label=arm, **look
            )
        elif low is not None and high is not None:
            ends = low.mean, high.mean
            left.plot(ends, (reward.mean, reward.mean), color=look["color"], alpha=0.7)
            middle = _square((_root(ends[0]) + _root(ends[1])) / 2)
            left.errorbar(
                middle, reward.mean, yerr=reward.half, label=arm, markerfacecolor="white", **look
            )
        if accuracy is not None:
            hollow = {} if exact is not None else {"markerfacecolor": "white"}
            right.errorbar(
                accuracy.mean, reward.mean, xerr=accuracy.half, yerr=reward.half, **look, **hollow
            )
    left.set_xlim(left=0)
    left.set(
        xlabel="KL to the reference, nats (square-root scale)",
        ylabel="E[r] (judge) above the reference's",
        xticks=[0, 0.1, 0.5, 1, 2, 3, 4],
        title="filled: KL known; hollow: it lies on the bar",
    )
    right.set(xlabel="accuracy of the final answer above the reference's")
    for panel in (left, right):
        panel.grid(alpha=0.3)
    figure.legend(loc="center left", bbox_to_anchor=(0.91, 0.5), frameon=False, fontsize=8)
    return figure


def _frontier(panel: Any, book: Book) -> None:
    """The points estimable on every seed's prompts."""
    refused = {f.arm for f in book.findings if f.verdict == "not estimable"}
    points = []
    for arm in dict.fromkeys(f.arm for f in book.findings if f.arm.startswith("pi*")):
        divergence, reward = _number(book, arm, KL), _number(book, arm, "E[r]", over=True)
        if arm not in refused and divergence and reward:
            points.append((divergence, reward))
    if points:
        x, y = [d for d, _ in points], [r for _, r in points]
        panel.errorbar(
            [d.mean for d in x],
            [r.mean for r in y],
            xerr=[d.half for d in x],
            yerr=[r.half for r in y],
            color="black",
            marker=".",
            capsize=2,
            label="frontier, where estimable",
        )


def _number(book: Book, arm: str, check: str, *, over: bool = False) -> Spread | None:
    """A mean over seeds and its interval; of one seed, the interval its findings give. `over`:
    what it is above the reference's."""
    name = above(check) if over else check
    here = [f.value for f in book.findings if f.arm == arm and f.check == name]
    if not here:
        return None
    if len(here) > 1:
        return Spread.of(here)
    name = f"{check}, half of the 95 % interval"
    half = [f.value for f in book.findings if f.arm == arm and f.check == name]
    return Spread(here[0], half[0] if half else 0.0, 1)


def _root(x: Any) -> Any:
    return abs(x) ** 0.5


def _square(x: Any) -> Any:
    return x**2
