"""The arms of a comparison as points, accuracy (or reward) against four costs, and the curves.

An arm has a number, which stands at its points and in the key below the panels: thirty colours and
markers cannot be told apart. A curve has the colour of its arm, and its line tells its kind.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.compare.curves import Curve
from pipeline.compare.labels import Label, place_labels
from pipeline.compare.summary import ArmFigures, Comparison
from pipeline.extras import require
from pipeline.intervals import Interval

AXES = {
    "paper_calls": "calls a response",
    "flops": "FLOPs a response",
    "generated_tokens": "generated tokens a response",
    "seconds": "engine seconds a response",
}
LINES = {
    "pass@k": (":", "pass@k: any of k is right, no method"),
    "majority of k": ("--", "majority of k"),
    "best of k": ("-.", "best of k by the judge"),
    "at most k proposals": ("-", "at most k proposals"),
}
_COLUMNS = 5


def svg(found: Comparison) -> bytes:
    """The figure. Raises ConfigError naming the extra that is missing."""
    graded = any(arm.accuracy is not None for arm in found.arms)
    with _figure(found, (14, 11)) as (figure, labelled):
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

        axes: Any = figure.subplots(2, 2, sharey=True)
        for axis, (cost, label) in zip(axes.flat, AXES.items(), strict=True):
            labelled.append((axis, _panel(axis, found.arms, found.curves, cost, graded)))
            axis.set_xlabel(label)
            axis.set_xscale("log")
            # Of two or three powers of ten matplotlib labels every digit, one over the other.
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.grid(alpha=0.3)
        for axis in axes[:, 0]:
            axis.set_ylabel("accuracy" if graded else "reward")
        kinds = [kind for kind in LINES if any(c.kind == kind for c in found.curves)]
        _key(figure, found.arms, [LINES[kind] for kind in kinds])
    return _written(figure)


def distances_svg(found: Comparison) -> bytes:
    """Accuracy and reward of the arms whose KL to the base LM is known, against it. An arm that
    gives one response to a prompt is drawn hollow: its KL is that of a point."""
    known = [arm for arm in found.arms if arm.distance and arm.distance.kl]
    with _figure(found, (14, 8)) as (figure, labelled):
        axes: Any = figure.subplots(1, 2)
        for axis, measure in zip(axes, ("accuracy", "reward"), strict=True):
            points = []
            for number, arm in _numbered(found.arms):
                value, distance = getattr(arm, measure), arm.distance
                if value is None or distance is None or distance.kl is None:
                    continue
                hollow = distance.kind == "one response"
                points.append(_point(axis, number, distance.kl, value, hollow=hollow))
            labelled.append((axis, points))
            # The distance of a policy grows about as the square of its gain: see `_root`.
            axis.set_xscale("function", functions=(_root, _square))
            axis.set_xlabel(
                "KL to the base LM, nats a response, on a scale of roots\n"
                "(hollow: one response a prompt)"
            )
            axis.set_ylabel(measure)
            axis.grid(alpha=0.3)
        _key(figure, found.arms, [], shown={arm.name for arm in known})
    return _written(figure)


@contextmanager
def _figure(
    found: Comparison, size: tuple[float, float]
) -> Iterator[tuple[Any, list[tuple[Any, list[Label]]]]]:
    """A figure to draw in, and a list that takes the labels of each panel; they are placed in the
    end. Raises ConfigError naming the extra that is missing."""
    require("matplotlib", "compare", "nabla compare")
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional package

    labelled: list[tuple[Any, list[Label]]] = []
    rows = -(-len(found.arms) // _COLUMNS)
    figure = Figure(figsize=(size[0], size[1] + 0.2 * rows), layout="constrained")
    yield figure, labelled
    figure.suptitle(f"{found.prompts:,} prompts, 95 % intervals")
    # Labels are placed where points will stand: the layout must not move them afterwards.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axis, points in labelled:
        place_labels(axis, points)


def _written(figure: Any) -> bytes:
    import matplotlib  # noqa: PLC0415 - an optional package

    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "nabla", "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _key(
    figure: Any,
    arms: Sequence[ArmFigures],
    lines: Sequence[tuple[str, str]],
    shown: set[str] | None = None,
) -> None:
    """The names of the numbers, and the kinds of lines, below the panels."""
    from matplotlib import lines as shapes  # noqa: PLC0415 - an optional package

    line: Any = shapes.Line2D

    handles = [
        line([], [], marker="o", color=_colour(number), linestyle="none", label=_named(number, arm))
        for number, arm in _numbered(arms)
        if shown is None or arm.name in shown
    ]
    handles += [
        line([], [], color="black", linewidth=1, linestyle=style, label=name)
        for style, name in lines
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=_COLUMNS, fontsize=8)


def _numbered(arms: Sequence[ArmFigures]) -> Iterator[tuple[int, ArmFigures]]:
    return enumerate(arms, 1)


def _named(number: int, arm: ArmFigures) -> str:
    # Between two dollar signs matplotlib would read a formula.
    return f"{number}  {arm.name}".replace("$", r"\$")


def _colour(number: int) -> str:
    return f"C{(number - 1) % 10}"


def _point(axis: Any, number: int, x: Interval, y: Interval, *, hollow: bool = False) -> Label:
    axis.errorbar(
        x.mean,
        y.mean,
        xerr=[[x.mean - x.low], [x.high - x.mean]] if x.low < x.high else None,
        yerr=[[y.mean - y.low], [y.high - y.mean]],
        marker="o",
        markersize=4.5,
        markerfacecolor="none" if hollow else None,
        color=_colour(number),
        linestyle="none",
        linewidth=0.8,
        capsize=1.5,
    )
    return Label(
        x=x.mean, y=y.mean, low=y.low, high=y.high, text=str(number), colour=_colour(number)
    )


def _panel(
    axis: Any, arms: Sequence[ArmFigures], curves: Sequence[Curve], cost: str, graded: bool
) -> list[Label]:
    """Draw arms and curves against a cost; the labels of the arms."""
    labels, colours = [], {}
    for number, arm in _numbered(arms):
        colours[arm.name] = _colour(number)
        value, spent = arm.accuracy if graded else arm.reward, arm.costs[cost]
        if value is None or not spent:  # an axis in powers has no place for 0
            continue
        labels.append(_point(axis, number, Interval(spent, spent, spent), value))
    for curve in curves:
        values = curve.accuracy if graded else curve.reward
        if values is None or cost not in curve.costs:  # the seconds of a batch have no prefix
            continue
        axis.plot(
            curve.costs[cost],
            values,
            marker=".",
            markersize=2.5,
            linewidth=0.9,
            linestyle=LINES[curve.kind][0],
            color=colours.get(curve.arm, "black"),
            alpha=0.75,
            zorder=1,
        )
    return labels


def _root(x: Any) -> Any:
    """Estimates of a KL of 0 may be below 0."""
    import numpy as np  # noqa: PLC0415 - with matplotlib

    return np.sign(x) * np.sqrt(np.abs(x))


def _square(x: Any) -> Any:
    import numpy as np  # noqa: PLC0415 - with matplotlib

    return np.sign(x) * np.square(x)
