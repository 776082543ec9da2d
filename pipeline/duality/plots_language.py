"""Plots of parts embedded and policy."""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from pipeline.duality.findings import Book
from pipeline.duality.plots_continuous import COLOURS


def plane(book: Book) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), sharey=True)
    frontier = book.figures["frontier"]
    if frontier:
        x = [d.value for _, d, _ in frontier]
        y = [r.value for _, _, r in frontier]
        left.errorbar(
            x,
            y,
            xerr=[d.half for _, d, _ in frontier],
            yerr=[r.half for _, _, r in frontier],
            color="black",
            marker=".",
            label="frontier, where estimable",
            capsize=2,
        )
    for k, (arm, (bounds, reward, accuracy)) in enumerate(book.figures["arms"].items()):
        low, high = bounds.low, bounds.high
        colour, mark = COLOURS[k % len(COLOURS)], "osD^vPX*"[k % 8]
        left.errorbar(
            (low + high) / 2,
            reward.value,
            xerr=max(0.0, (high - low) / 2),
            yerr=reward.half,
            color=colour,
            marker=mark,
            markersize=7,
            capsize=2,
            label=arm,
            linestyle="none",
        )
        if accuracy is None:
            continue
        right.errorbar(
            accuracy.value,
            reward.value,
            xerr=accuracy.half,
            yerr=reward.half,
            color=colour,
            marker=mark,
            markersize=7,
            capsize=2,
            linestyle="none",
        )
    left.set(
        xlabel="KL to the reference (nats; a bar spans what it can be)",
        ylabel="E[r], judge",
        xlim=(-0.2, 12),
    )
    right.set(xlabel="accuracy of the final answer")
    figure.legend(loc="center left", bbox_to_anchor=(0.91, 0.5), frameon=False, fontsize=8)
    return figure
