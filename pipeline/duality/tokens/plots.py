"""Plots of part tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

import matplotlib.pyplot as plt

from pipeline.duality import names
from pipeline.duality.findings import PartResults
from pipeline.duality.plotting import COLOURS
from pipeline.duality.thresholds import MAX_GAP, MAX_TV


def chains(results: PartResults) -> Any:
    """KL to pi* by steps, chains of the first seed; controls run shorter and are dashed."""
    figure, panel = plt.subplots(figsize=(7.5, 4))
    for k, (arm, distances) in enumerate(results.plot_data["chains"].items()):
        # The logarithmic axis ends at rounding error.
        style = "-" if arm.endswith("+ Metropolis") else "--"
        panel.semilogy([max(d, 1e-16) for d in distances], style, color=COLOURS[k], label=arm)
    panel.set(xlabel="steps of the chain", ylabel="KL(law || pi*), nats", ylim=(1e-16, 30))
    panel.legend(frameon=False, fontsize=8)
    return figure


class _Family(NamedTuple):
    """How the arms are drawn whose names begin with `prefix`; colour "none" is hollow."""

    prefix: str
    marker: str
    colour: str
    label: str


_FAMILIES = (
    _Family("suffix resampling + M", "P", COLOURS[0], "chains with Metropolis"),
    _Family("discrete Langevin + M", "P", COLOURS[0], "chains with Metropolis"),
    _Family("exact-gradient RL", "o", COLOURS[2], "RL, exact gradient"),
    _Family("sampled RLOO", "s", COLOURS[3], "RL, sampled RLOO"),
    _Family("GRPO's fixed point", "d", COLOURS[4], "GRPO, its fixed point"),
    _Family("GRPO (TRL)", "D", COLOURS[4], "GRPO (TRL), not converged"),
    _Family("best of", "^", COLOURS[5], "best of 4, of 16"),
    _Family("nabla decoding, null", "v", "none", "nabla decoding, null arm"),
    _Family("nabla decoding, published", "v", COLOURS[1], "nabla decoding, published"),
    _Family("nabla decoding", "v", COLOURS[6], "nabla decoding, other settings"),
    _Family("DTO published", "X", COLOURS[1], "DTO, published"),
    _Family("DTO", "X", COLOURS[6], "DTO, other settings"),
    _Family("discrete Langevin, no", "x", "black", "Langevin without Metropolis"),
)


def reward_against_kl(results: PartResults) -> Any:
    """Reward and KL of the arms of the first seed. Each seed has its own frontier."""
    figure, panel = plt.subplots(figsize=(8.5, 5.5))
    panel.plot(
        *zip(*results.plot_data["frontier"], strict=True), color="black", label="frontier (pi*)"
    )
    # The other seeds have other frontiers.
    first = min(f.seed for f in results.findings)
    values = {(f.arm, f.check): f.value for f in results.findings if f.seed == first}
    # Each family has one entry in the legend.
    shown = set()
    for arm in dict.fromkeys(f.arm for f in results.findings):
        family = next((f for f in _FAMILIES if arm.startswith(f.prefix)), None)
        if family is None or (arm, names.REWARD) not in values:
            continue
        panel.plot(
            values[arm, names.KL],
            values[arm, names.REWARD],
            family.marker,
            color=COLOURS[1] if family.colour == "none" else family.colour,
            markerfacecolor=family.colour,
            markersize=7,
            alpha=0.85,
            label=None if family.label in shown else family.label,
        )
        shown.add(family.label)
    panel.set(xlabel="KL to the reference, nats", ylabel="E[r]", xlim=(-0.1, 6))
    panel.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def strips(results: PartResults) -> Any:
    """Every arm with every seed: its gap to the frontier, and its distance to the nearest pi*."""
    checks = {
        names.GAP: ("E[r] below the frontier at equal KL", MAX_GAP),
        names.FITTED_TV: ("TV to the nearest pi*", MAX_TV),
    }
    # Without the controls that have another target on purpose.
    arms = [
        arm
        for arm in dict.fromkeys(f.arm for f in results.findings if f.check in checks)
        if "accepts all" not in arm and "doubled" not in arm
    ]
    rows = {arm: y for y, arm in enumerate(reversed(arms))}
    figure, panels = plt.subplots(1, 2, figsize=(12, 0.29 * len(arms) + 1), sharey=True)
    for panel, (check, (label, threshold)) in zip(panels, checks.items(), strict=True):
        points = [
            (f.value, rows[f.arm]) for f in results.findings if f.check == check and f.arm in rows
        ]
        panel.plot(*zip(*points, strict=True), "o", color=COLOURS[0], alpha=0.5, markersize=5)
        panel.axvline(threshold, linestyle="--", color="grey", label=f"threshold {threshold:g}")
        panel.set(yticks=list(rows.values()), yticklabels=list(rows), xlabel=label)
        panel.tick_params(axis="y", labelsize=8)
        panel.grid(alpha=0.3)
        panel.legend(frameon=False, fontsize=8, loc="lower right")
    figure.tight_layout()
    return figure
