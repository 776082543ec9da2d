"""Plots of parts language and checkpoints, from their findings."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt

from pipeline.duality import names
from pipeline.duality.findings import PartResults, SeedMean
from pipeline.duality.plotting import COLOURS

REWARD_DIFFERENCE = names.above_reference(names.REWARD)
ACCURACY_DIFFERENCE = names.above_reference(names.ACCURACY)


def reward_against_kl(results: PartResults) -> Any:
    """Reward against KL, and against accuracy. Reward and accuracy are differences to the
    reference on the same prompts; means over seeds with 95 % intervals."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6), sharey=True)
    # Most arms have a small KL; a logarithmic axis cannot show the reference at KL 0.
    left.set_xscale("function", functions=(_root, _square))
    _frontier(left, results)
    arms = [a for a in dict.fromkeys(f.arm for f in results.findings) if not a.startswith("pi*")]
    rewards = {arm: _number(results, arm, REWARD_DIFFERENCE) for arm in arms}
    drawn = {arm: reward for arm, reward in rewards.items() if reward is not None}
    for k, (arm, reward) in enumerate(drawn.items()):
        accuracy = _number(results, arm, ACCURACY_DIFFERENCE)
        style = {
            "color": COLOURS[k % len(COLOURS)],
            "marker": "osD^vPX*"[k % 8],
            "markersize": 7,
            "capsize": 2,
            "linestyle": "none",
        }
        exact, low, high = (
            _number(results, arm, check) for check in (names.KL, names.KL_LOW, names.KL_HIGH)
        )
        if exact is not None:
            left.errorbar(
                exact.mean,
                reward.mean,
                xerr=exact.half_width,
                yerr=reward.half_width,
                label=arm,
                **style,
            )
        # Without log-probabilities: a bar over the interval, and a hollow mark in its middle.
        elif low is not None and high is not None:
            ends = low.mean, high.mean
            left.plot(ends, (reward.mean, reward.mean), color=style["color"], alpha=0.7)
            middle = _square((_root(ends[0]) + _root(ends[1])) / 2)
            left.errorbar(
                middle,
                reward.mean,
                yerr=reward.half_width,
                label=arm,
                markerfacecolor="white",
                **style,
            )
        if accuracy is not None:
            hollow = {} if exact is not None else {"markerfacecolor": "white"}
            right.errorbar(
                accuracy.mean,
                reward.mean,
                xerr=accuracy.half_width,
                yerr=reward.half_width,
                **style,
                **hollow,
            )
    left.set_xlim(left=0)
    left.set(
        xlabel="KL to the reference, nats (square-root scale)",
        ylabel="E[r] (judge) minus the reference's",
        xticks=[0, 0.1, 0.5, 1, 2, 3, 4],
        title="filled: KL is estimated; hollow: KL lies on the bar",
    )
    right.set(xlabel="accuracy of the final answer minus the reference's")
    for panel in (left, right):
        panel.grid(alpha=0.3)
    figure.legend(loc="center left", bbox_to_anchor=(0.91, 0.5), frameon=False, fontsize=8)
    return figure


def _frontier(panel: Any, results: PartResults) -> None:
    """The points that are estimable on the prompts of every seed."""
    excluded = {f.arm for f in results.findings if f.verdict == "not estimable"}
    points = []
    for arm in dict.fromkeys(f.arm for f in results.findings if f.arm.startswith("pi*")):
        divergence, reward = (
            _number(results, arm, names.KL),
            _number(results, arm, REWARD_DIFFERENCE),
        )
        if arm not in excluded and divergence and reward:
            points.append((divergence, reward))
    if points:
        x, y = [d for d, _ in points], [r for _, r in points]
        panel.errorbar(
            [d.mean for d in x],
            [r.mean for r in y],
            xerr=[d.half_width for d in x],
            yerr=[r.half_width for r in y],
            color="black",
            marker=".",
            capsize=2,
            label="frontier, where estimable",
        )


def _number(results: PartResults, arm: str, check: str) -> SeedMean | None:
    """A mean over seeds and its interval. With one seed, the interval within its prompts."""
    values = _values(results, arm, check)
    if not values:
        return None
    if len(values) > 1:
        return SeedMean.of(values)
    # A difference to the reference has the interval of the number itself.
    number = check.removesuffix(names.above_reference(""))
    half = _values(results, arm, names.half_width(number))
    return SeedMean(values[0], half[0] if half else 0.0, 1)


def _values(results: PartResults, arm: str, check: str) -> list[float]:
    return [f.value for f in results.findings if f.arm == arm and f.check == check]


def _root(x: Any) -> Any:
    return abs(x) ** 0.5


def _square(x: Any) -> Any:
    return x**2
