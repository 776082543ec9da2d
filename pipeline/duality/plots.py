"""The stage's plots, as PNG bytes by name. What is not estimable is not drawn."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

from pipeline.duality.findings import Book

COLOURS = ("#0b6e99", "#c44e31", "#4a8f3c", "#8a5fb0", "#b58900", "#444444", "#d16ba5")


def draw(books: Sequence[Book]) -> dict[str, tuple[str, bytes]]:
    """Caption and picture by file name."""
    found: dict[str, tuple[str, bytes]] = {}
    for book in books:
        for name, (caption, plot) in _PLOTS.get(book.part, {}).items():
            figure = plot(book)
            sink = io.BytesIO()
            figure.savefig(sink, format="png", dpi=130, bbox_inches="tight")
            plt.close(figure)
            found[name] = (caption, sink.getvalue())
    return found


def _paths(book: Book) -> Any:
    paths = book.figures["paths"]
    axis, cell = paths["axis"].numpy(), paths["cell"]
    figure, panels = plt.subplots(1, 4, figsize=(13, 3.1), sharey=True)
    for k, (panel, time) in enumerate(zip(panels, paths["times"], strict=True)):
        panel.hist(
            paths["samples"][k].numpy(),
            bins=90,
            range=(-4.5, 4.5),
            density=True,
            color="#b9d7e4",
            label="noisy descent on samples",
        )
        panel.hist(
            paths["no noise"][k].numpy(),
            bins=90,
            range=(-4.5, 4.5),
            density=True,
            histtype="step",
            color=COLOURS[1],
            label="descent without noise",
        )
        panel.plot(
            axis,
            paths["policy"][k].numpy() / cell,
            color=COLOURS[0],
            label="policy (Fokker-Planck)",
        )
        panel.plot(axis, paths["optimum"].numpy() / cell, ":", color="black", label="optimum pi*")
        panel.set(title=f"t = {time:g}", xlim=(-4.5, 4.5), ylim=(0, 1.0), xlabel="x")
    panels[0].set_ylabel("density")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper center", ncols=4, frameon=False, bbox_to_anchor=(0.5, 1.1)
    )
    return figure


def _continuous_plane(book: Book) -> Any:
    plane = book.figures["plane"]
    figure, panel = plt.subplots(figsize=(6, 4))
    panel.plot(*zip(*plane["frontier"], strict=True), color="black", label="frontier (all pi*)")
    for name, colour, mark in (
        ("natural gradient", COLOURS[2], "o-"),
        ("Wasserstein flow", COLOURS[0], "s-"),
    ):
        panel.plot(
            *zip(*plane[name], strict=True), mark, color=colour, label=f"{name}, t = .1 to 3"
        )
    panel.set(xlabel="KL to the reference (nats)", ylabel="E[r]", xlim=(-0.02, 1.0))
    panel.legend(frameon=False)
    return figure


def _rates(book: Book) -> Any:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.4))
    steps, rates = book.figures["step rate"]
    for colour, (name, errors) in zip(COLOURS, rates.items(), strict=False):
        left.loglog(steps, errors, "o-", color=colour, label=f"{name} of the Euler law")
    _guide(left, steps, rates["TV"], 1, "order 1")
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
    for panel in (left, middle, right):
        panel.legend(frameon=False, fontsize=8)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_minor_formatter(NullFormatter())
    figure.tight_layout()
    return figure


def _guide(panel: Any, x: Sequence[float], y: Sequence[float], order: float, label: str) -> None:
    line = [0.6 * y[0] * (v / x[0]) ** order for v in x]
    panel.loglog(x, line, "--", color="grey", label=label)


def _chains(book: Book) -> Any:
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


def _token_plane(book: Book) -> Any:
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


def _variation(book: Book) -> Any:
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


def _language_plane(book: Book) -> Any:
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


Plot = tuple[str, Callable[[Book], Any]]
_PLOTS: dict[str, dict[str, Plot]] = {
    "continuous": {
        "density-paths": (
            "Laws in 1-D. Noisy descent on samples (filled) follows the policy's flow (line) at "
            "every time; without noise (outline) the law collapses onto the modes.",
            _paths,
        ),
        "continuous-plane": (
            "Reward against KL in 1-D. Natural gradient moves along the frontier; the Wasserstein "
            "flow, which noisy descent follows, reaches it only at its end.",
            _continuous_plane,
        ),
        "convergence-rates": ("How fast the errors fall, with the expected orders.", _rates),
    },
    "tokens": {
        "token-plane": (
            "Reward against KL on enumerated responses, first seed. Exact chains and RL lie on "
            "the frontier; best-of-N, DTO and nabla decoding below it.",
            _token_plane,
        ),
        "chains": (
            "Distance to pi* by steps, first seed. Dashed: controls, which must not arrive.",
            _chains,
        ),
        "total-variation": ("How far each law is from the nearest pi*_beta.", _variation),
    },
    "embedded": {
        "language-plane": (
            "The embedded LM: reward against KL, and against accuracy (95 % intervals).",
            _language_plane,
        ),
    },
    "policy": {
        "policy-plane": (
            "Your policy: reward against KL, and against accuracy where answers are known.",
            _language_plane,
        ),
    },
}
