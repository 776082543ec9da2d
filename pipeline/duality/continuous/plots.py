"""Plots of part continuous."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator

from pipeline.duality.findings import Book

COLOURS = ("#0b6e99", "#c44e31", "#4a8f3c", "#8a5fb0", "#b58900", "#444444", "#d16ba5")


def paths(book: Book) -> Any:
    """Densities on the line at four times, the first seed's particles."""
    drawn = book.figures["paths"]
    axis, cell = drawn["axis"].numpy(), drawn["cell"]
    figure, panels = plt.subplots(1, 4, figsize=(13, 3.1), sharey=True)
    for k, (panel, time) in enumerate(zip(panels, drawn["times"], strict=True)):
        panel.hist(
            drawn["samples"][k].numpy(),
            bins=90,
            range=(-4.5, 4.5),
            density=True,
            color="#b9d7e4",
            label="noisy descent on samples",
        )
        panel.hist(
            drawn["no noise"][k].numpy(),
            bins=90,
            range=(-4.5, 4.5),
            density=True,
            histtype="step",
            color=COLOURS[1],
            label="descent without noise",
        )
        panel.plot(
            axis,
            drawn["policy"][k].numpy() / cell,
            color=COLOURS[0],
            label="policy (Fokker-Planck)",
        )
        panel.plot(axis, drawn["optimum"].numpy() / cell, ":", color="black", label="optimum pi*")
        panel.set(title=f"t = {time:g}", xlim=(-4.5, 4.5), ylim=(0, 1.0), xlabel="x")
    panels[0].set_ylabel("density")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper center", ncols=4, frameon=False, bbox_to_anchor=(0.5, 1.1)
    )
    return figure


def plane(book: Book) -> Any:
    """Paths of two flows of the policy, the same J and start."""
    found = book.figures["plane"]
    figure, panel = plt.subplots(figsize=(6, 4))
    panel.plot(*zip(*found["frontier"], strict=True), color="black", label="frontier (all pi*)")
    times = book.figures["paths"]["times"]
    for name, colour, mark, beside in (
        ("natural gradient", COLOURS[2], "o", (-28, 6)),
        ("Wasserstein flow", COLOURS[0], "s-", (6, -11)),
    ):
        panel.plot(*zip(*found[name], strict=True), mark, color=colour, label=name)
        for time, point in list(zip(times, found[name], strict=True))[1:]:
            panel.annotate(
                f"t={time:g}", point, xytext=beside, textcoords="offset points", fontsize=7
            )
    panel.set(xlabel="KL to the reference, nats", ylabel="E[r]", xlim=(-0.02, 1.0))
    panel.legend(frameon=False, loc="lower right")
    return figure


def rates(book: Book) -> Any:
    """Errors in the step, in N and of the quantile policy, with guides of the expected order."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.4))
    steps, orders = book.figures["step rate"]
    for colour, (name, errors) in zip(COLOURS, orders.items(), strict=False):
        left.loglog(steps, errors, "o-", color=colour, label=f"{name} of the Euler law")
    _guide(left, steps, orders["TV"], 1, "order 1")
    left.set(xlabel="step h", ylabel="error at t = 1", title="error in the step")
    for k, (sizes, errors) in enumerate(book.figures["ensemble rate"]):
        label = "particles, one line a seed" if k == 0 else None
        middle.loglog(sizes, errors, "o-", color=COLOURS[0], alpha=0.6, label=label)
    _guide(middle, sizes, errors, -0.5, "order -1/2")
    middle.set(xlabel="particles N", ylabel="W1 at t = 1", title="error in N")
    counts, errors = book.figures["quantile rate"]
    right.loglog(counts, errors, "o-", color=COLOURS[2], label="quantile policy")
    _guide(right, counts, errors, -1, "order -1")
    right.set(xlabel="quantiles", ylabel="W1 to Fokker-Planck", title="error of the policy")
    for panel, ticks in ((left, steps), (middle, sizes), (right, counts)):
        panel.set_xticks(ticks, [f"{v:g}" for v in ticks])
        panel.legend(frameon=False, fontsize=8)
        panel.minorticks_off()
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    figure.tight_layout()
    return figure


def _guide(panel: Any, x: Sequence[float], y: Sequence[float], order: float, label: str) -> None:
    line = [0.6 * y[0] * (v / x[0]) ** order for v in x]
    panel.loglog(x, line, "--", color="grey", label=label)
