"""Plots of part continuous."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator

from pipeline.duality.findings import PartResults
from pipeline.duality.plotting import COLOURS


def paths(results: PartResults) -> Any:
    """Densities in 1-D at four times; particles of the first seed."""
    data = results.plot_data["paths"]
    axis, cell = data["axis"].numpy(), data["cell"]
    figure, panels = plt.subplots(1, 4, figsize=(13, 3.1), sharey=True)
    for k, (panel, time) in enumerate(zip(panels, data["times"], strict=True)):
        panel.hist(
            data["samples"][k].numpy(),
            bins=90,
            range=(-4.5, 4.5),
            density=True,
            color="#b9d7e4",
            label="noisy descent on samples",
        )
        panel.hist(
            data["no noise"][k].numpy(),
            bins=90,
            range=(-4.5, 4.5),
            density=True,
            histtype="step",
            color=COLOURS[1],
            label="descent without noise",
        )
        panel.plot(
            axis,
            data["policy"][k].numpy() / cell,
            color=COLOURS[0],
            label="policy (Fokker-Planck)",
        )
        panel.plot(axis, data["optimum"].numpy() / cell, ":", color="black", label="optimum pi*")
        # Peaks of the samples without noise are cut off: they grow without bound.
        panel.set(title=f"t = {time:g}", xlim=(-4.5, 4.5), ylim=(0, 1.0), xlabel="x")
    panels[0].set_ylabel("density")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper center", ncols=4, frameon=False, bbox_to_anchor=(0.5, 1.1)
    )
    return figure


def reward_against_kl(results: PartResults) -> Any:
    """Paths of two gradient flows of the same J from the same start."""
    data = results.plot_data["reward and KL"]
    figure, panel = plt.subplots(figsize=(6, 4))
    panel.plot(*zip(*data["frontier"], strict=True), color="black", label="frontier (all pi*)")
    times = results.plot_data["paths"]["times"]
    for name, colour, marker, offset in (
        ("natural gradient", COLOURS[2], "o", (-28, 6)),
        ("Wasserstein flow", COLOURS[0], "s-", (6, -11)),
    ):
        panel.plot(*zip(*data[name], strict=True), marker, color=colour, label=name)
        for time, point in list(zip(times, data[name], strict=True))[1:]:
            panel.annotate(
                f"t={time:g}", point, xytext=offset, textcoords="offset points", fontsize=7
            )
    panel.set(xlabel="KL to the reference, nats", ylabel="E[r]", xlim=(-0.02, 1.0))
    panel.legend(frameon=False, loc="lower right")
    return figure


def rates(results: PartResults) -> Any:
    """Errors in the step size, in N and of the quantile policy, with the expected orders."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.4))
    steps, orders = results.plot_data["step rate"]
    for colour, (name, errors) in zip(COLOURS, orders.items(), strict=False):
        left.loglog(steps, errors, "o-", color=colour, label=f"{name} of the Euler law")
    _order_line(left, steps, orders["TV"], 1, "order 1")
    left.set(xlabel="step h", ylabel="error at t = 1", title="error in the step")
    # One line for each seed, one entry in the legend.
    for k, (sizes, errors) in enumerate(results.plot_data["rate in N"]):
        label = "particles, one line a seed" if k == 0 else None
        middle.loglog(sizes, errors, "o-", color=COLOURS[0], alpha=0.6, label=label)
    _order_line(middle, sizes, errors, -0.5, "order -1/2")
    middle.set(xlabel="particles N", ylabel="W1 at t = 1", title="error in N")
    counts, errors = results.plot_data["quantile rate"]
    right.loglog(counts, errors, "o-", color=COLOURS[2], label="quantile policy")
    _order_line(right, counts, errors, -1, "order -1")
    right.set(xlabel="quantiles", ylabel="W1 to Fokker-Planck", title="error of the policy")
    # Few points on a log axis: label each of them, and no others.
    for panel, ticks in ((left, steps), (middle, sizes), (right, counts)):
        panel.set_xticks(ticks, [f"{v:g}" for v in ticks])
        panel.legend(frameon=False, fontsize=8)
        panel.minorticks_off()
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    figure.tight_layout()
    return figure


def _order_line(
    panel: Any, x: Sequence[float], y: Sequence[float], order: float, label: str
) -> None:
    # Below the curve, so that both can be seen.
    line = [0.6 * y[0] * (v / x[0]) ** order for v in x]
    panel.loglog(x, line, "--", color="grey", label=label)
