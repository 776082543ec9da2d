"""The numbers by which laws over enumerated responses are compared."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.duality import names
from pipeline.duality.findings import PartResults
from pipeline.duality.frontier import RegularisedProblem, total_variation
from pipeline.duality.thresholds import MAX_GAP, MAX_TV

REPETITIONS = 40


def describe(
    results: PartResults,
    problem: RegularisedProblem,
    arm: str,
    seed: int,
    law: Tensor,
    beta: float,
) -> None:
    """Report a law `[S]`: its reward and KL, and its distances to the frontier, to pi*_beta and
    to the nearest optimum, compared with the thresholds that RLOO must keep."""
    results.report(names.REWARD, arm, seed, problem.mean_reward(law))
    results.report(names.KL, arm, seed, problem.kl(law))
    results.report(names.GAP, arm, seed, problem.gap(law), MAX_GAP)
    results.report(names.TV, arm, seed, total_variation(law, problem.optimum(beta)), MAX_TV)
    fitted = problem.fitted_beta(law)
    results.report(names.FITTED_BETA, arm, seed, fitted)
    distance = total_variation(law, problem.optimum(fitted))
    results.report(names.FITTED_TV, arm, seed, distance, MAX_TV)


def empirical_tv(counts: Tensor, law: Tensor) -> float:
    """TV between the relative frequencies of counts `[S]` and a law `[S]`."""
    return total_variation(counts / counts.sum(), law)


def sampling_bound(law: Tensor, count: int, generator: torch.Generator) -> float:
    """A bound of the TV between a law and the frequencies of `count` exact draws of it.

    Mean and four standard deviations over `REPETITIONS` repetitions. The TV of a finite sample
    is far from 0 (about .04 for 100,000 draws of 4,096 responses), so a run is compared with
    this bound and not with 0.
    """
    values = []
    for _ in range(REPETITIONS):
        drawn = law.multinomial(count, replacement=True, generator=generator)
        values.append(empirical_tv(torch.bincount(drawn, minlength=len(law)).double(), law))
    tv = torch.tensor(values, dtype=torch.float64)
    return float(tv.mean() + 4 * tv.std())
