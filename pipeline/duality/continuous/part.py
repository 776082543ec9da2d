"""Part continuous: T1 to T4 in R and R^2, where policy and samples have separate numerics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.duality.continuous.flows import (
    TIMES,
    identities,
    natural_gradient,
    policy_side,
    slope,
    step_rate,
)
from pipeline.duality.continuous.fokker_planck import Grid
from pipeline.duality.continuous.landscapes import line, plane
from pipeline.duality.continuous.particles import (
    LANGEVIN,
    WRONG,
    Dynamics,
    kolmogorov,
    kolmogorov_threshold,
    simulate,
    wasserstein_to,
)
from pipeline.duality.findings import Book, merged

LATE = 0.3


@dataclass(frozen=True)
class Continuous:
    """`particles` per simulation with Euler step `step`; `cells` of the grid on the line and
    along each side of the plane; `quantiles`: sizes of the quantile policy, rising;
    `ensemble` particles for the rate in N, cut into groups from `smallest` on."""

    beta: float = 0.5
    particles: int = 20_000
    step: float = 0.005
    cells: int = 800
    plane_cells: int = 88
    quantiles: tuple[int, ...] = (40, 80, 160)
    ensemble: int = 32_000
    smallest: int = 250

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"continuous.beta must be positive, got {self.beta}")
        if self.ensemble < 16 * self.smallest:
            raise ValueError("continuous.ensemble must be at least 16 x continuous.smallest")


def run(settings: Continuous, seeds: tuple[int, ...]) -> Book:
    """Every check and control."""
    return merged([exact(settings), *(sampled(settings, seed, len(seeds)) for seed in seeds)])


def exact(settings: Continuous) -> Book:
    """What takes no random number: identities, paths, the policy's side, the step's order."""
    book = Book("continuous")
    grid, laws = _policy_law(settings)
    identities(book, grid, laws, settings.beta)
    policy_side(book, grid, laws, settings.beta, settings.quantiles)
    natural_gradient(book, grid, laws, settings.beta)
    step_rate(book, grid, laws, settings.beta)
    return book


def sampled(settings: Continuous, seed: int, seeds: int) -> Book:
    """Particles of one seed (of `seeds`) against the policy's laws, on the line and in the
    plane."""
    book = Book("continuous")
    grid, laws = _policy_law(settings)
    _line(book, grid, laws, settings, seed, seeds)
    _ensemble_rate(book, grid, settings, seed)
    surface = Grid.of(plane(), settings.plane_cells)
    surfaces = surface.flow_plane(surface.target.reference, settings.beta, TIMES)
    _plane(book, surface, surfaces, settings, seed, seeds)
    return book


def _policy_law(settings: Continuous) -> tuple[Grid, list[Tensor]]:
    grid = Grid.of(line(), settings.cells)
    return grid, grid.flow_line(grid.target.reference, settings.beta, TIMES)


def _generator(seed: int, stream: int) -> torch.Generator:
    return torch.Generator().manual_seed(1_000 * seed + stream)


def _simulate(
    grid: Grid, dynamics: Dynamics, settings: Continuous, seed: int, stream: int
) -> list[Tensor]:
    return simulate(
        grid.landscape,
        dynamics,
        beta=settings.beta,
        step=settings.step,
        times=TIMES,
        count=settings.particles,
        generator=_generator(seed, stream),
    )


def _line(
    book: Book, grid: Grid, laws: list[Tensor], settings: Continuous, seed: int, seeds: int
) -> None:
    threshold = kolmogorov_threshold(len(TIMES) * seeds)
    clouds = {"noisy descent": _simulate(grid, LANGEVIN, settings, seed, 0)}
    for stream, (name, dynamics) in enumerate(WRONG.items(), 1):
        clouds[name] = _simulate(grid, dynamics, settings, seed, stream)
    for name, cloud in clouds.items():
        for time, points, law in zip(TIMES, cloud, laws, strict=True):
            check = f"1-D law of samples = law of policy, KS sqrt(N), t={time:g}"
            value = kolmogorov(points.squeeze(-1), grid.edges, law)
            if name == "noisy descent":
                book.positive(check, name, seed, value, threshold)
            elif time >= LATE:
                book.control(check, name, seed, value, threshold)
        reward = float(grid.landscape.reward(cloud[-1]).mean())
        book.report("1-D E[r] at t=3", name, seed, reward)
    if "paths" not in book.figures:
        book.figures["paths"] = {
            "axis": grid.axis,
            "cell": grid.cell,
            "times": TIMES,
            "policy": laws,
            "optimum": grid.target.optimum(settings.beta),
            "samples": [p.squeeze(-1) for p in clouds["noisy descent"]],
            "no noise": [p.squeeze(-1) for p in clouds["no noise"]],
        }


def _plane(
    book: Book,
    grid: Grid,
    laws: list[Tensor],
    settings: Continuous,
    seed: int,
    seeds: int,
) -> None:
    threshold = kolmogorov_threshold(3 * len(TIMES) * seeds)
    n = len(grid.axis)
    diagonal = _diagonal_edges(grid)
    arms = {"noisy descent": LANGEVIN, **WRONG}
    for stream, (name, dynamics) in enumerate(arms.items(), 20):
        cloud = _simulate(grid, dynamics, settings, seed, stream)
        for time, points, law in zip(TIMES, cloud, laws, strict=True):
            square = law.reshape(n, n)
            values = [
                kolmogorov(points[:, 0], grid.edges, square.sum(1)),
                kolmogorov(points[:, 1], grid.edges, square.sum(0)),
                kolmogorov(points.sum(1), diagonal, _diagonal(square)),
            ]
            check = f"2-D law of samples = law of policy, KS sqrt(N) of x, y, x+y, t={time:g}"
            if name == "noisy descent":
                book.positive(check, name, seed, max(values), threshold)
            elif time >= LATE:
                book.control(check, name, seed, max(values), threshold)


def _diagonal(square: Tensor) -> Tensor:
    """The law of x + y, on cells of the same side: a pair of uniform cells adds up to a
    triangle over two of them, half its mass in each."""
    n = square.size(0)
    sums = torch.zeros(2 * n, dtype=square.dtype)
    index = (torch.arange(n)[:, None] + torch.arange(n)[None, :]).flatten()
    sums.index_add_(0, index, square.flatten() / 2)
    sums.index_add_(0, index + 1, square.flatten() / 2)
    return sums


def _diagonal_edges(grid: Grid) -> Tensor:
    lowest = 2 * (grid.edges[0] - grid.cell)
    return lowest + grid.cell * torch.arange(1, 2 * len(grid.axis) + 1, dtype=torch.float64)


def _ensemble_rate(book: Book, grid: Grid, settings: Continuous, seed: int) -> None:
    """W1 of N particles and the law falls as N^-1/2."""
    (law,) = grid.flow_line(grid.target.reference, settings.beta, [1.0])
    (cloud,) = simulate(
        grid.landscape,
        LANGEVIN,
        beta=settings.beta,
        step=settings.step,
        times=[1.0],
        count=settings.ensemble,
        generator=_generator(seed, 10),
    )
    sizes, errors = [], []
    size = settings.smallest
    while size <= settings.ensemble // 4:
        groups = cloud.squeeze(-1).split(size)
        errors.append(sum(wasserstein_to(g, grid.edges, law) for g in groups) / len(groups))
        sizes.append(size)
        size *= 2
    order = slope(sizes, errors)
    book.report("order of the W1 error in the number of particles", "noisy descent", seed, order)
    check = "distance from -1/2 of the order of the W1 error in N"
    book.positive(check, "noisy descent", seed, abs(order + 0.5), 0.1)
    book.figures.setdefault("ensemble rate", []).append((sizes, errors))
