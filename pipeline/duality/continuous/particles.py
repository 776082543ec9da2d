"""The samples' side in R^d: particles that climb r + beta log p_ref, with noise or without."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.duality.continuous.landscapes import Landscape


@dataclass(frozen=True)
class Dynamics:
    """dy = (grad r + prior * beta grad log p_ref) dt + noise * sqrt(2 beta) dW, by Euler.

    `adam` puts the drift through Adam's running moments first, as the released algorithm
    does with its gradients.
    """

    noise: float = 1.0
    prior: float = 1.0
    adam: bool = False


LANGEVIN = Dynamics()
# Each lacks something that T2 needs; none may pass for the policy's flow.
WRONG = {
    "no noise": Dynamics(noise=0.0),
    "noise x2": Dynamics(noise=2.0),
    "noise / 2": Dynamics(noise=0.5),
    "prior dropped": Dynamics(prior=0.0),
    "Adam + noise": Dynamics(adam=True),
}
ADAM = (0.9, 0.999, 1e-8)


def simulate(
    landscape: Landscape,
    dynamics: Dynamics,
    *,
    beta: float,
    step: float,
    times: list[float],
    count: int,
    generator: torch.Generator,
) -> list[Tensor]:
    """Particles `[count, d]` at each time, started from the reference. Simulated in float32,
    whose rounding is far below what these numbers of particles can tell; returned in float64."""
    landscape = landscape.single()
    y = landscape.sample(count, generator)
    noise = dynamics.noise * math.sqrt(2 * beta * step)
    m = torch.zeros_like(y)
    v = torch.zeros_like(y)
    done, found = 0, []
    for time in times:
        for _ in range(round(time / step) - done):
            done += 1
            drift = landscape.reward_gradient(y)
            drift = drift + dynamics.prior * beta * landscape.prior_gradient(y)
            if dynamics.adam:
                m = ADAM[0] * m + (1 - ADAM[0]) * drift
                v = ADAM[1] * v + (1 - ADAM[1]) * drift**2
                scale = (v / (1 - ADAM[1] ** done)).sqrt() + ADAM[2]
                drift = m / (1 - ADAM[0] ** done) / scale
            y = y + step * drift
            if noise:
                y = y + noise * torch.randn(y.shape, dtype=y.dtype, generator=generator)
        found.append(y.double())
    return found


def kolmogorov(points: Tensor, edges: Tensor, law: Tensor) -> float:
    """sqrt(N) times the largest distance of the points' CDF `[N]` from that of a law `[n]` on
    cells with these upper edges, linear within cells."""
    ordered = points.sort().values
    n, cell = len(ordered), float(edges[1] - edges[0])
    upper = torch.cat([torch.zeros(1, dtype=law.dtype), law.cumsum(0)])
    place = ((ordered - (edges[0] - cell)) / cell).clamp(0, len(law))
    low = place.floor().long().clamp(max=len(law) - 1)
    cdf = upper[low] + (place - low) * law[low]
    above = torch.arange(1, n + 1, dtype=cdf.dtype) / n
    worst = torch.maximum((above - cdf).abs(), (cdf - (above - 1 / n)).abs()).max()
    return math.sqrt(n) * float(worst)


def kolmogorov_threshold(tests: int, level: float = 0.01) -> float:
    """What the largest of `tests` such numbers exceeds with probability `level` at most."""
    return math.sqrt(math.log(2 * tests / level) / 2)


def wasserstein_to(points: Tensor, edges: Tensor, law: Tensor) -> float:
    """W1 of points `[N]` and a grid law, both CDFs read at the cells' edges."""
    place = torch.searchsorted(points.sort().values, edges, right=True)
    gap = place.to(law.dtype) / len(points) - law.cumsum(0)
    return float(gap.abs().sum() * (edges[1] - edges[0]))
