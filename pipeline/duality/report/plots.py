"""The plots of the report, as PNG bytes. What is not estimable is not drawn."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt

from pipeline.duality.continuous import plots as plots_continuous
from pipeline.duality.findings import PartResults
from pipeline.duality.language import plots as plots_language
from pipeline.duality.tokens import plots as plots_tokens


def draw(parts: Sequence[PartResults]) -> dict[str, tuple[str, bytes]]:
    """Caption and picture, by file name."""
    pictures: dict[str, tuple[str, bytes]] = {}
    for results in parts:
        for name, (caption, plot) in _PLOTS.get(results.part, {}).items():
            figure = plot(results)
            sink = io.BytesIO()
            figure.savefig(sink, format="png", dpi=130, bbox_inches="tight")
            # pyplot keeps every figure in memory until it is closed.
            plt.close(figure)
            pictures[name] = (caption, sink.getvalue())
    return pictures


# Plots of each part: file name, caption, function.
Plot = tuple[str, Callable[[PartResults], Any]]
_PLOTS: dict[str, dict[str, Plot]] = {
    "continuous": {
        "density-paths": (
            "Distributions in 1-D, first seed. Gradient descent with noise (filled) follows the "
            "flow of the policy (line) at every time; without noise (outline, peaks cut off) the "
            "samples collapse onto the modes.",
            plots_continuous.paths,
        ),
        "continuous-reward-kl": (
            "Reward against KL in 1-D. The natural gradient moves along the frontier. The "
            "Wasserstein flow, which noisy gradient descent follows, is below it until the limit.",
            plots_continuous.reward_against_kl,
        ),
        "convergence-rates": (
            "Errors at t = 1. The dashed lines have the expected order.",
            plots_continuous.rates,
        ),
    },
    "tokens": {
        "tokens-reward-kl": (
            "Reward against KL on enumerated responses, first seed. The black line is "
            "the frontier: a KL-regularised optimum lies on it, any other distribution below it.",
            plots_tokens.reward_against_kl,
        ),
        "tokens-all-seeds": (
            "Every arm with every seed, one dot each: its gap to the frontier, and its distance to "
            "the nearest pi*_beta.",
            plots_tokens.strips,
        ),
        "tokens-chains": (
            "KL to pi* by steps, first seed. The dashed chains are controls, which must not "
            "converge; they run for a quarter of the steps.",
            plots_tokens.chains,
        ),
    },
    "language": {
        "language-reward-kl": (
            "The embedded LM: reward against KL, and against accuracy; means over seeds with "
            "95 % intervals. RLOO was trained for few steps.",
            plots_language.reward_against_kl,
        ),
    },
    "checkpoints": {
        "checkpoints-reward-kl": (
            "Your policy: reward against KL, and against accuracy where the answers are known.",
            plots_language.reward_against_kl,
        ),
    },
}
