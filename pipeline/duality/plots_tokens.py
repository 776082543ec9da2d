"""Plots of part tokens."""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from pipeline.duality.findings import Book
from pipeline.duality.plots_continuous import COLOURS


def chains(book: Book) -> Any:
    figure, panel = plt.subplots(figsize=(7.5, 4))
    for k, (arm, distances) in enumerate(book.figures["chains"].items()):
        style = "-" if k < 2 else "--"
        panel.semilogy([max(d, 1e-16) for d in distances], style, color=COLOURS[k], label=arm)
    panel.set(xlabel="steps of the chain", ylabel="KL(law || pi*)", ylim=(1e-11, 30))
    panel.legend(frameon=False, fontsize=8)
    return figure


def _arms(book: Book) -> list[tuple[str, float, float]]:
    """Arms of the first seed: name, KL, E[r]."""
    first = min(f.seed for f in book.findings)
    here = {(f.arm, f.check): f.value for f in book.findings if f.seed == first}
    names = dict.fromkeys(f.arm for f in book.findings if f.seed == first)
    return [
        (arm, here[arm, "KL to the reference"], here[arm, "E[r]"])
        for arm in names
        if (arm, "KL to the reference") in here
    ]


_FAMILIES: tuple[tuple[str, str, str], ...] = (
    ("suffix resampling + M", "P", "exact chains"),
    ("discrete Langevin + M", "P", "exact chains"),
    ("exact-gradient RL", "o", "RL, exact gradient"),
    ("sampled RLOO", "s", "RL, sampled RLOO"),
    ("GRPO (TRL)", "D", "GRPO through TRL"),
    ("best of", "^", "best of N"),
    ("DTO", "X", "DTO (all settings)"),
    ("nabla decoding", "v", "nabla decoding (all settings)"),
    ("discrete Langevin, no", "x", "Langevin without Metropolis"),
)


def plane(book: Book) -> Any:
    figure, panel = plt.subplots(figsize=(8, 5))
    panel.plot(*zip(*book.figures["frontier"], strict=True), color="black", label="frontier (pi*)")
    shown = set()
    for arm, divergence, reward in _arms(book):
        for k, (start, mark, family) in enumerate(_FAMILIES):
            if arm.startswith(start):
                label = None if family in shown else family
                shown.add(family)
                colour = COLOURS[k % len(COLOURS)]
                panel.plot(divergence, reward, mark, color=colour, markersize=8, label=label)
    panel.set(xlabel="KL to the reference (nats)", ylabel="E[r]", xlim=(-0.1, 6))
    panel.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def variation(book: Book) -> Any:
    """TV to the nearest pi* of every arm, over seeds."""
    check = "TV to pi* at the fitted beta"
    rows: dict[str, list[float]] = {}
    for f in book.findings:
        if f.check == check and "accepts all" not in f.arm and "doubled" not in f.arm:
            rows.setdefault(f.arm, []).append(f.value)
    names = list(rows)
    figure, panel = plt.subplots(figsize=(8.5, 0.3 * len(names) + 1))
    for y, name in enumerate(reversed(names)):
        panel.plot(rows[name], [y] * len(rows[name]), "o", color=COLOURS[0], alpha=0.6)
    panel.axvline(0.1, linestyle="--", color="grey", label="threshold .1")
    panel.set(
        yticks=range(len(names)),
        yticklabels=list(reversed(names)),
        xlim=(-0.02, 1.02),
        xlabel="TV to pi* at the arm's fitted beta (one dot a seed)",
    )
    panel.tick_params(axis="y", labelsize=8)
    panel.grid(axis="x", alpha=0.3)
    panel.legend(frameon=False, fontsize=8, loc="lower right")
    return figure
