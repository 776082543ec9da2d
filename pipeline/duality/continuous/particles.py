"""The samples in R^d: particles that ascend r + beta log p_ref, with noise or without."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.duality.continuous.landscapes import Landscape


@dataclass(frozen=True)
class Dynamics:
    """dy = (grad r + prior * beta grad log p_ref) dt + noise * sqrt(2 beta) dW, by Euler steps.

    The defaults are Langevin dynamics, whose law follows the gradient flow of J (T2). `adam`
    normalises the drift by Adam's running moments, as the released algorithm does with its
    gradients.
    """

    noise: float = 1.0
    prior: float = 1.0
    adam: bool = False


LANGEVIN = Dynamics()
# Controls. Each violates a condition of T2, so none may agree with the flow of the policy.
WRONG = {
    "no noise": Dynamics(noise=0.0),
    "noise x2": Dynamics(noise=2.0),
    "noise / 2": Dynamics(noise=0.5),
    "prior dropped": Dynamics(prior=0.0),
    "Adam + noise": Dynamics(adam=True),
}
# Adam's decay rates and epsilon.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def simulate(
    landscape: Landscape,
    dynamics: Dynamics,
    *,
    beta: float,
    step_size: float,
    times: list[float],
    count: int,
    generator: torch.Generator,
) -> list[Tensor]:
    """Particles `[count, d]` at each time, started from the reference.

    Simulated in float32, whose rounding is far below the sampling error of these numbers of
    particles; returned in float64.
    """
    landscape = landscape.in_float32()
    y = landscape.sample(count, generator)
    noise = dynamics.noise * math.sqrt(2 * beta * step_size)
    m = torch.zeros_like(y)
    v = torch.zeros_like(y)
    done, snapshots = 0, []
    for time in times:
        for _ in range(round(time / step_size) - done):
            done += 1
            drift = landscape.reward_gradient(y)
            drift = drift + dynamics.prior * beta * landscape.prior_gradient(y)
            if dynamics.adam:
                m = BETA_1 * m + (1 - BETA_1) * drift
                v = BETA_2 * v + (1 - BETA_2) * drift**2
                scale = (v / (1 - BETA_2**done)).sqrt() + EPSILON
                drift = m / (1 - BETA_1**done) / scale
            # Euler-Maruyama: the noise of one step has variance 2 beta h.
            y = y + step_size * drift
            if noise:
                y = y + noise * torch.randn(y.shape, dtype=y.dtype, generator=generator)
        snapshots.append(y.double())
    return snapshots


def kolmogorov(points: Tensor, edges: Tensor, law: Tensor) -> float:
    """The Kolmogorov-Smirnov statistic times sqrt(N): the largest difference between the
    empirical CDF of points `[N]` and the CDF of a law `[n]` on cells with these upper edges,
    linear within cells."""
    ordered = points.sort().values
    n, cell = len(ordered), float(edges[1] - edges[0])
    at_edges = torch.cat([torch.zeros(1, dtype=law.dtype), law.cumsum(0)])
    place = ((ordered - (edges[0] - cell)) / cell).clamp(0, len(law))
    low = place.floor().long().clamp(max=len(law) - 1)
    cdf = at_edges[low] + (place - low) * law[low]
    # The empirical CDF jumps at each point: both sides of the jump are compared.
    after = torch.arange(1, n + 1, dtype=cdf.dtype) / n
    worst = torch.maximum((after - cdf).abs(), (cdf - (after - 1 / n)).abs()).max()
    return math.sqrt(n) * float(worst)


def kolmogorov_threshold(tests: int, level: float = 0.01) -> float:
    """The threshold that the largest of `tests` statistics exceeds with probability `level` at
    most, if all laws agree.

    From P(sqrt(N) D > x) <= 2 exp(-2 x^2) (Massart 1990) and Bonferroni's correction.
    """
    return math.sqrt(math.log(2 * tests / level) / 2)


def wasserstein_to(points: Tensor, edges: Tensor, law: Tensor) -> float:
    """W1 between points `[N]` and a grid law `[n]`, with both CDFs taken at the cells' edges."""
    below = torch.searchsorted(points.sort().values, edges, right=True)
    gap = below.to(law.dtype) / len(points) - law.cumsum(0)
    return float(gap.abs().sum() * (edges[1] - edges[0]))
