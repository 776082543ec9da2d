"""Part continuous: T1 to T4 in R and R^2, where policy and samples have separate numerics."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.duality.findings import Book, merged
from pipeline.duality.fokker_planck import Grid, quantile_flow, quantiles
from pipeline.duality.frontier import total_variation
from pipeline.duality.landscapes import line, plane
from pipeline.duality.particles import (
    LANGEVIN,
    WRONG,
    Dynamics,
    kolmogorov,
    kolmogorov_threshold,
    simulate,
    wasserstein_to,
)

TIMES = [0.1, 0.3, 1.0, 3.0]
LATE = 0.3
STEPS = (0.1, 0.05, 0.025, 0.0125)


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
    return merged([exact(settings), *(sampled(settings, seed, seeds) for seed in seeds)])


def exact(settings: Continuous) -> Book:
    """What takes no random number: identities, paths, the policy's side, the step's order."""
    book = Book("continuous")
    grid, laws = _policy_law(settings)
    _identities(book, grid, laws, settings.beta)
    _policy_side(book, grid, laws, settings)
    _natural_gradient(book, grid, laws, settings.beta)
    _step_rate(book, grid, laws, settings.beta)
    return book


def sampled(settings: Continuous, seed: int, seeds: tuple[int, ...]) -> Book:
    """Particles of one seed against the policy's laws, on the line and in the plane."""
    book = Book("continuous")
    grid, laws = _policy_law(settings)
    _line(book, grid, laws, settings, seed, len(seeds))
    _ensemble_rate(book, grid, settings, seed)
    surface = Grid.of(plane(), settings.plane_cells)
    surfaces = surface.flow_plane(surface.target.reference, settings.beta, TIMES)
    controls = seed == seeds[0]
    _plane(book, surface, surfaces, settings, seed, len(seeds), controls=controls)
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
    *,
    controls: bool,
) -> None:
    threshold = kolmogorov_threshold(3 * len(TIMES) * seeds)
    n = len(grid.axis)
    diagonal = _diagonal_edges(grid)
    # The plane is for the positive check; one seed shows that it can fail.
    arms = {"noisy descent": LANGEVIN, **(WRONG if controls else {})}
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


def _identities(book: Book, grid: Grid, laws: list[Tensor], beta: float) -> None:
    """T1: J = J* - beta KL(q || pi*); and J rises along the policy's flow."""
    target = grid.target
    optimum = target.optimum(beta)
    last = -math.inf
    fall = 0.0
    for time, law in zip([0.0, *TIMES], [target.reference, *laws], strict=True):
        kept = law.clamp(min=1e-300)
        distance = float((kept * (kept.log() - optimum.log())).sum())
        value = target.value(kept, beta)
        error = abs(target.best_value(beta) - value - beta * distance)
        book.positive("J* - J = beta KL(law, pi*)", f"t={time:g}", 0, error, 1e-5)
        fall = max(fall, last - value)
        last = value
    book.positive("J falls along the policy's flow by", "Fokker-Planck", 0, fall, 0.0)
    far = total_variation(laws[-1], optimum)
    book.report("1-D TV of the policy's flow to pi* at t=3", "Fokker-Planck", 0, far)


def _policy_side(book: Book, grid: Grid, laws: list[Tensor], settings: Continuous) -> None:
    """The quantile policy against the grid: two numerics of the same flow."""
    wanted = [t for t in TIMES if t <= 1]
    errors = []
    for count in settings.quantiles:
        start = quantiles(grid, grid.target.reference, count)
        policy = quantile_flow(grid.landscape, start, settings.beta, wanted)
        errors.append(
            max(
                float((x - quantiles(grid, law, count)).abs().mean())
                for x, law in zip(policy, laws, strict=False)
            )
        )
        book.report("W1 of quantile policy and Fokker-Planck", f"{count} quantiles", 0, errors[-1])
    check = "W1 of quantile policy and Fokker-Planck, t <= 1"
    book.positive(check, f"{settings.quantiles[-1]} quantiles", 0, errors[-1], 0.01)
    growth = max(fine / coarse for coarse, fine in itertools.pairwise(errors))
    book.positive("W1 to Fokker-Planck, finer over coarser policy", "quantiles", 0, growth, 0.8)
    book.figures["quantile rate"] = (list(settings.quantiles), errors)


def _natural_gradient(book: Book, grid: Grid, laws: list[Tensor], beta: float) -> None:
    """T4: natural policy gradient, integrated, against its closed form; it stays on the
    frontier, and the Wasserstein flow with the same end does not."""
    target = grid.target
    log_q, now = target.log_ref.clone(), 0.0

    def change(log_q: Tensor) -> Tensor:
        advantage = target.reward - beta * (log_q - target.log_ref)
        return advantage - (log_q.exp() * advantage).sum()

    worst = gap = 0.0
    path = []
    for time in TIMES:
        count = round((time - now) / 0.005)
        h = (time - now) / count
        for _ in range(count):
            a = change(log_q)
            b = change(log_q + h / 2 * a)
            c = change(log_q + h / 2 * b)
            log_q = log_q + h / 6 * (a + 2 * b + 2 * c + change(log_q + h * c))
        now = time
        closed = target.optimum(beta / (1 - math.exp(-beta * time)))
        worst = max(worst, total_variation(log_q.exp(), closed))
        gap = max(gap, abs(target.gap(closed)))
        path.append((target.kl(closed), target.mean_reward(closed)))
    book.positive("natural gradient path, TV to its closed form", "NPG", 0, worst, 1e-6)
    book.positive("gap to the frontier along the path", "NPG", 0, gap, 1e-6)
    gaps = [target.gap(law) for law in laws]
    book.control("gap to the frontier along the path", "Wasserstein flow", 0, max(gaps), 1e-6)
    curve = [target.point(10 ** (k / 10)) for k in range(-4, 21)]
    book.figures["plane"] = {
        "frontier": curve,
        "natural gradient": path,
        "Wasserstein flow": [(target.kl(q), target.mean_reward(q)) for q in laws],
    }


def _step_rate(book: Book, grid: Grid, laws: list[Tensor], beta: float) -> None:
    """Weak order of the Euler scheme, from its exact law."""
    start, law = grid.target.reference, laws[TIMES.index(1.0)]
    found = [grid.euler_line(start, beta, h, round(1 / h)) for h in STEPS]
    rates = {
        "TV": [total_variation(law, q) for q in found],
        "W1": [grid.wasserstein(law, q) for q in found],
    }
    for name, errors in rates.items():
        order = slope(STEPS, errors)
        book.report(f"order of the {name} error in the step", "Euler", 0, order)
        check = f"distance from 1 of the order of the {name} error in the step"
        book.positive(check, "Euler", 0, abs(order - 1), 0.15)
    book.figures["step rate"] = (list(STEPS), rates)


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


def slope(x: tuple[float, ...] | list[int], y: list[float]) -> float:
    """Least-squares slope of log y on log x."""
    a = torch.tensor([math.log(v) for v in x], dtype=torch.float64)
    b = torch.tensor([math.log(v) for v in y], dtype=torch.float64)
    a = a - a.mean()
    return float((a * b).sum() / (a * a).sum())
