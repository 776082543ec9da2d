"""Part continuous: T1 to T4 in R and R^2.

Policy and samples are computed by different numerical methods: the policy by the
Fokker-Planck equation on a grid, the samples by particles.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.duality import names
from pipeline.duality.continuous.config import ContinuousConfig
from pipeline.duality.continuous.flows import (
    TIMES,
    identities,
    natural_gradient,
    quantile_policy,
    slope,
    step_rate,
)
from pipeline.duality.continuous.fokker_planck import Grid
from pipeline.duality.continuous.landscapes import three_modes_1d, three_modes_2d
from pipeline.duality.continuous.particles import (
    LANGEVIN,
    WRONG,
    Dynamics,
    kolmogorov,
    kolmogorov_threshold,
    simulate,
    wasserstein_to,
)
from pipeline.duality.findings import PartResults, merge

RIGHT = "noisy descent"
# Before this time the wrong dynamics are still too near to the right ones for the test.
FIRST_CONTROL_TIME = 0.3
# Random streams of a seed: 0 to 9 particles in 1-D, 10 the rate in N, from 20 on 2-D.
RATE_STREAM, STREAM_2D = 10, 20


def run(settings: ContinuousConfig, seeds: tuple[int, ...]) -> PartResults:
    """Every check and control."""
    return merge([exact(settings), *(sampled(settings, seed, len(seeds)) for seed in seeds)])


def exact(settings: ContinuousConfig) -> PartResults:
    """What needs no random number: identities, paths, the policy, the order in the step size."""
    results = PartResults("continuous")
    grid, laws = _policy_laws(settings)
    identities(results, grid, laws, settings.beta)
    quantile_policy(results, grid, laws, settings.beta, settings.quantiles)
    natural_gradient(results, grid, laws, settings.beta)
    step_rate(results, grid, laws, settings.beta)
    return results


def sampled(settings: ContinuousConfig, seed: int, seeds: int) -> PartResults:
    """Particles of one seed (of `seeds`) against the laws of the policy, in 1-D and 2-D."""
    results = PartResults("continuous")
    grid, laws = _policy_laws(settings)
    particles_1d(results, grid, laws, settings, seed, seeds)
    _rate_in_n(results, grid, settings, seed)
    grid = Grid.of(three_modes_2d(), settings.cells_2d)
    laws = grid.flow_2d(grid.problem.reference, settings.beta, TIMES)
    _particles_2d(results, grid, laws, settings, seed, seeds)
    return results


def _policy_laws(settings: ContinuousConfig) -> tuple[Grid, list[Tensor]]:
    grid = Grid.of(three_modes_1d(), settings.cells)
    return grid, grid.flow_1d(grid.problem.reference, settings.beta, TIMES)


def _generator(seed: int, stream: int) -> torch.Generator:
    return torch.Generator().manual_seed(1_000 * seed + stream)


def _simulate(
    grid: Grid, dynamics: Dynamics, settings: ContinuousConfig, seed: int, stream: int
) -> list[Tensor]:
    return simulate(
        grid.landscape,
        dynamics,
        beta=settings.beta,
        step_size=settings.step_size,
        times=TIMES,
        count=settings.particles,
        generator=_generator(seed, stream),
    )


def particles_1d(
    results: PartResults,
    grid: Grid,
    laws: list[Tensor],
    settings: ContinuousConfig,
    seed: int,
    seeds: int,
) -> None:
    """T2 and T3 in 1-D: the right dynamics must have the policy's law, the wrong ones must not.

    laws: `[n]` at each of `TIMES`. The threshold is corrected for all times and seeds
    (Bonferroni).
    """
    threshold = kolmogorov_threshold(len(TIMES) * seeds)
    clouds = {RIGHT: _simulate(grid, LANGEVIN, settings, seed, 0)}
    for stream, (name, dynamics) in enumerate(WRONG.items(), 1):
        clouds[name] = _simulate(grid, dynamics, settings, seed, stream)
    for name, cloud in clouds.items():
        for time, points, law in zip(TIMES, cloud, laws, strict=True):
            check = f"{names.LAW_1D}, t={time:g}"
            value = kolmogorov(points.squeeze(-1), grid.edges, law)
            if name == RIGHT:
                results.positive(check, name, seed, value, threshold)
            elif time >= FIRST_CONTROL_TIME:
                results.control(check, name, seed, value, threshold)
        reward = float(grid.landscape.reward(cloud[-1]).mean())
        results.report("1-D E[r] at t=3", name, seed, reward)
    if "paths" not in results.plot_data:
        results.plot_data["paths"] = {
            "axis": grid.axis,
            "cell": grid.cell,
            "times": TIMES,
            "policy": laws,
            "optimum": grid.problem.optimum(settings.beta),
            "samples": [points.squeeze(-1) for points in clouds[RIGHT]],
            "no noise": [points.squeeze(-1) for points in clouds["no noise"]],
        }


def _particles_2d(
    results: PartResults,
    grid: Grid,
    laws: list[Tensor],
    settings: ContinuousConfig,
    seed: int,
    seeds: int,
) -> None:
    """The same in 2-D. The KS test is one-dimensional, so the laws of x, y and x + y are
    compared: the last one depends on the correlation."""
    threshold = kolmogorov_threshold(3 * len(TIMES) * seeds)
    n = len(grid.axis)
    sum_edges = _sum_edges(grid)
    arms = {RIGHT: LANGEVIN, **WRONG}
    for stream, (name, dynamics) in enumerate(arms.items(), STREAM_2D):
        cloud = _simulate(grid, dynamics, settings, seed, stream)
        for time, points, law in zip(TIMES, cloud, laws, strict=True):
            square = law.reshape(n, n)
            values = [
                kolmogorov(points[:, 0], grid.edges, square.sum(1)),
                kolmogorov(points[:, 1], grid.edges, square.sum(0)),
                kolmogorov(points.sum(1), sum_edges, _law_of_sum(square)),
            ]
            check = f"{names.LAW_2D}, t={time:g}"
            if name == RIGHT:
                results.positive(check, name, seed, max(values), threshold)
            elif time >= FIRST_CONTROL_TIME:
                results.control(check, name, seed, max(values), threshold)


def _law_of_sum(square: Tensor) -> Tensor:
    """The law `[2n]` of x + y, given that of (x, y) `[n, n]`, on cells of the same side."""
    n = square.size(0)
    sums = torch.zeros(2 * n, dtype=square.dtype)
    index = (torch.arange(n)[:, None] + torch.arange(n)[None, :]).flatten()
    # x and y are uniform within their cells, so x + y has a triangular density over two
    # neighbouring cells, with half of the mass in each.
    sums.index_add_(0, index, square.flatten() / 2)
    sums.index_add_(0, index + 1, square.flatten() / 2)
    return sums


def _sum_edges(grid: Grid) -> Tensor:
    """Upper edges `[2n]` of the cells of x + y."""
    lowest = 2 * (grid.edges[0] - grid.cell)
    return lowest + grid.cell * torch.arange(1, 2 * len(grid.axis) + 1, dtype=torch.float64)


def _rate_in_n(results: PartResults, grid: Grid, settings: ContinuousConfig, seed: int) -> None:
    """W1 between N particles and their law falls as N^(-1/2)."""
    (law,) = grid.flow_1d(grid.problem.reference, settings.beta, [1.0])
    (cloud,) = simulate(
        grid.landscape,
        LANGEVIN,
        beta=settings.beta,
        step_size=settings.step_size,
        times=[1.0],
        count=settings.rate_particles,
        generator=_generator(seed, RATE_STREAM),
    )
    # One simulation, cut into groups of N: particles do not interact, so each group is a
    # simulation of its own, and the mean over the groups has little noise.
    sizes, errors = [], []
    size = settings.smallest_group
    while size <= settings.rate_particles // 4:
        groups = cloud.squeeze(-1).split(size)
        errors.append(sum(wasserstein_to(g, grid.edges, law) for g in groups) / len(groups))
        sizes.append(size)
        size *= 2
    order = slope(sizes, errors)
    results.report("order of the W1 error in the number of particles", RIGHT, seed, order)
    check = "distance from -1/2 of the order of the W1 error in N"
    results.positive(check, RIGHT, seed, abs(order + 0.5), 0.1)
    results.plot_data.setdefault("rate in N", []).append((sizes, errors))
