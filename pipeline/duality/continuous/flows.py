"""T1, T3 and T4 in R without a random number: identities, the policy's own side, its paths in
the plane of reward and KL, and the order of the Euler scheme."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.duality.continuous.fokker_planck import Grid, quantile_flow, quantiles
from pipeline.duality.findings import Book
from pipeline.duality.frontier import total_variation

TIMES = [0.1, 0.3, 1.0, 3.0]
STEPS = (0.1, 0.05, 0.025, 0.0125)


def identities(book: Book, grid: Grid, laws: list[Tensor], beta: float) -> None:
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


def policy_side(
    book: Book, grid: Grid, laws: list[Tensor], beta: float, counts: Sequence[int]
) -> None:
    """The quantile policy against the grid: two numerics of the same flow."""
    wanted = [t for t in TIMES if t <= 1]
    errors = []
    for count in counts:
        start = quantiles(grid, grid.target.reference, count)
        policy = quantile_flow(grid.landscape, start, beta, wanted)
        errors.append(
            max(
                float((x - quantiles(grid, law, count)).abs().mean())
                for x, law in zip(policy, laws, strict=False)
            )
        )
        book.report("W1 of quantile policy and Fokker-Planck", f"{count} quantiles", 0, errors[-1])
    check = "W1 of quantile policy and Fokker-Planck, t <= 1"
    book.positive(check, f"{counts[-1]} quantiles", 0, errors[-1], 0.01)
    growth = max(fine / coarse for coarse, fine in itertools.pairwise(errors))
    book.positive("W1 to Fokker-Planck, finer over coarser policy", "quantiles", 0, growth, 0.8)
    book.figures["quantile rate"] = (list(counts), errors)


def natural_gradient(book: Book, grid: Grid, laws: list[Tensor], beta: float) -> None:
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


def step_rate(book: Book, grid: Grid, laws: list[Tensor], beta: float) -> None:
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


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of log y on log x."""
    a = torch.tensor([math.log(v) for v in x], dtype=torch.float64)
    b = torch.tensor([math.log(v) for v in y], dtype=torch.float64)
    a = a - a.mean()
    return float((a * b).sum() / (a * a).sum())
