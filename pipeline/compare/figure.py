"""The arms of a comparison as points, accuracy (or reward) against four costs, and the curves."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.compare.curves import Curve
from pipeline.compare.summary import ArmFigures, Comparison
from pipeline.extras import require

AXES = {
    "paper_calls": "calls a response",
    "flops": "FLOPs a response",
    "generated_tokens": "generated tokens a response",
    "seconds": "engine seconds a response",
}
_MARKERS = "osD^vP*X<>hd"


def svg(found: Comparison) -> bytes:
    """The figure. Raises ConfigError naming the extra that is missing."""
    graded = any(arm.accuracy is not None for arm in found.arms)
    with _figure(f"{found.prompts:,} prompts, 95 % intervals", (13, 9)) as (figure, out):
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

        axes: Any = figure.subplots(2, 2, sharey=True)
        for axis, (cost, label) in zip(axes.flat, AXES.items(), strict=True):
            _panel(axis, found.arms, found.curves, cost, graded)
            axis.set_xlabel(label)
            axis.set_xscale("log")
            # Of two or three powers of ten matplotlib labels every digit, one over the other.
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.grid(alpha=0.3)
        for axis in axes[:, 0]:
            axis.set_ylabel("accuracy" if graded else "reward")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    return out.getvalue()


@contextmanager
def _figure(title: str, size: tuple[int, int]) -> Iterator[tuple[Any, io.BytesIO]]:
    """A figure to draw in, and where it is written as SVG in the end. Raises ConfigError naming the
    extra that is missing."""
    require("matplotlib", "compare", "nabla compare")
    import matplotlib  # noqa: PLC0415 - an optional package
    from matplotlib.figure import Figure  # noqa: PLC0415

    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "nabla", "svg.fonttype": "path"}):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, out
        figure.suptitle(title)
        figure.savefig(out, format="svg", metadata={"Date": None})


def _panel(
    axis: Any, arms: Sequence[ArmFigures], curves: Sequence[Curve], cost: str, graded: bool
) -> None:
    for number, arm in enumerate(arms):
        value = arm.accuracy if graded else arm.reward
        if value is None or not arm.costs[cost]:  # an axis in powers has no place for 0
            continue
        # A marker for each arm: colours alone do not tell twelve arms apart.
        axis.errorbar(
            arm.costs[cost],
            value.mean,
            yerr=[[value.mean - value.low], [value.high - value.mean]],
            marker=_MARKERS[number % len(_MARKERS)],
            # By number: a panel that leaves one out has the colours of the others.
            color=f"C{number % 10}",
            linestyle="none",
            capsize=2,
            label=arm.name,
        )
    for number, curve in enumerate(curves, len(arms)):
        values = curve.accuracy if graded else curve.reward
        if values is None or cost not in curve.costs:  # the seconds of a batch have no prefix
            continue
        label = f"{curve.arm}: {curve.kind}"
        color = f"C{number % 10}"
        axis.plot(curve.costs[cost], values, marker=".", linewidth=1, color=color, label=label)


def distances_svg(found: Comparison) -> bytes:
    """Accuracy and reward of the arms whose KL to the base LM is known, against it. An arm that
    gives one response to a prompt is drawn hollow: its KL is that of a point."""
    arms = [(arm, arm.distance.kl) for arm in found.arms if arm.distance and arm.distance.kl]
    with _figure(f"{found.prompts:,} prompts, 95 % intervals", (13, 6)) as (figure, out):
        axes: Any = figure.subplots(1, 2)
        for axis, measure in zip(axes, ("accuracy", "reward"), strict=True):
            for number, (arm, kl) in enumerate(arms):
                value = getattr(arm, measure)
                if value is None:
                    continue
                hollow = arm.distance is not None and arm.distance.kind == "one response"
                axis.errorbar(
                    kl.mean,
                    value.mean,
                    xerr=[[kl.mean - kl.low], [kl.high - kl.mean]],
                    yerr=[[value.mean - value.low], [value.high - value.mean]],
                    marker=_MARKERS[number % len(_MARKERS)],
                    markerfacecolor="none" if hollow else None,
                    linestyle="none",
                    capsize=2,
                    label=arm.name,
                )
            axis.set_xlabel("KL to the base LM, nats a response (hollow: one response a prompt)")
            axis.set_ylabel(measure)
            axis.grid(alpha=0.3)
        handles, labels = axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    return out.getvalue()
