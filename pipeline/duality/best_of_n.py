"""Best-of-N in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.duality.frontier import RegularisedProblem


def best_of_n_law(problem: RegularisedProblem, n: int) -> Tensor:
    """The exact law `[S]` of the best of n draws of the reference; of equals the first wins.

    With F(r) the probability of a reward of at most r, the best of n draws has a reward of at
    most r with probability F(r)^n. Responses of equal reward share their increment of F^n in
    proportion to p_ref.
    """
    order = problem.reward.argsort(stable=True)
    mass, reward = problem.reference[order], problem.reward[order]
    cumulative = mass.cumsum(0).clamp(max=1.0)
    # group[i]: index of the distinct reward that response i has, in ascending order.
    _, group = torch.unique_consecutive(reward, return_inverse=True)
    cdf = torch.zeros(int(group[-1]) + 1, dtype=mass.dtype).scatter_reduce(
        0, group, cumulative, "amax", include_self=False
    )
    wins = torch.diff(cdf**n, prepend=torch.zeros(1, dtype=mass.dtype))
    group_mass = torch.zeros_like(wins).index_add(0, group, mass)
    law = torch.empty_like(mass)
    law[order] = wins[group] * mass / group_mass[group]
    return law


def best_of_n_kl_bound(n: int) -> float:
    """KL(best of n || reference) is at most log n - (n - 1) / n."""
    return math.log(n) - (n - 1) / n
