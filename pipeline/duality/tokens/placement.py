"""Where a law over enumerated responses falls, in the numbers all arms are told by."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.duality.findings import Book
from pipeline.duality.frontier import Target, total_variation

# What sampled RLOO is held to; other arms are told how they stand to it.
GAP, TV, BETA_OFF = 0.03, 0.1, 0.05


def describe(book: Book, target: Target, arm: str, seed: int, law: Tensor, beta: float) -> None:
    """Where a law falls, judged by what RLOO is held to."""
    book.report("E[r]", arm, seed, target.mean_reward(law))
    book.report("KL to the reference", arm, seed, target.kl(law))
    book.report("gap to the frontier", arm, seed, target.gap(law), GAP)
    book.report("TV to pi*", arm, seed, total_variation(law, target.optimum(beta)), TV)
    fitted = target.fitted_beta(law)
    book.report("fitted beta", arm, seed, fitted)
    nearest = total_variation(law, target.optimum(fitted))
    book.report("TV to pi* at the fitted beta", arm, seed, nearest, TV)


def draws_bound(law: Tensor, count: int, generator: torch.Generator) -> float:
    """The TV to a law that `count` exact draws of it stay under: mean and four standard
    deviations over 40 repetitions."""
    repeats = []
    for _ in range(40):
        drawn = law.multinomial(count, replacement=True, generator=generator)
        seen = torch.bincount(drawn, minlength=len(law)).double() / count
        repeats.append(total_variation(seen, law))
    values = torch.tensor(repeats, dtype=torch.float64)
    return float(values.mean() + 4 * values.std())
