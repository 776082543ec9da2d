"""The stage's plots, as PNG bytes by name. What is not estimable is not drawn."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt

from pipeline.duality.continuous import plots as plots_continuous
from pipeline.duality.findings import Book
from pipeline.duality.language import plots as plots_language
from pipeline.duality.tokens import plots as plots_tokens


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


Plot = tuple[str, Callable[[Book], Any]]
_PLOTS: dict[str, dict[str, Plot]] = {
    "continuous": {
        "density-paths": (
            "Laws in 1-D, first seed. Noisy descent on samples (filled) follows the policy's flow "
            "(line) at every time; without noise (outline, peaks cut off) the law collapses onto "
            "the modes.",
            plots_continuous.paths,
        ),
        "continuous-plane": (
            "Reward against KL in 1-D. Natural gradient moves along the frontier; the Wasserstein "
            "flow, which noisy descent follows, lies below it until its end.",
            plots_continuous.plane,
        ),
        "convergence-rates": (
            "How fast the errors fall at t = 1; dashed, the expected order.",
            plots_continuous.rates,
        ),
    },
    "tokens": {
        "token-plane": (
            "Reward against KL on enumerated responses, first seed. Chains with Metropolis and RL "
            "lie on the frontier; best-of-N, DTO and nabla decoding below it.",
            plots_tokens.plane,
        ),
        "token-strips": (
            "Every arm in every seed, one dot each: how far below the frontier, and how far from "
            "the nearest pi*_beta.",
            plots_tokens.strips,
        ),
        "chains": (
            "Distance to pi* by steps, first seed. Dashed: controls, which must not arrive and "
            "are followed for a quarter of the steps.",
            plots_tokens.chains,
        ),
    },
    "embedded": {
        "language-plane": (
            "The embedded LM: reward against KL, and against accuracy; means over seeds with "
            "95 % intervals. RLOO has not converged.",
            plots_language.plane,
        ),
    },
    "policy": {
        "policy-plane": (
            "Your policy: reward against KL, and against accuracy where answers are known.",
            plots_language.plane,
        ),
    },
}
