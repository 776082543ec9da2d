"""T1, T2 and T4 in 1-D without a random number: identities, two computations of the policy's
flow, its path in the plane of KL and reward, and the order of the Euler scheme."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.duality import names
from pipeline.duality.continuous.fokker_planck import Grid, quantile_flow, quantiles
from pipeline.duality.continuous.runge_kutta import runge_kutta
from pipeline.duality.findings import PartResults
from pipeline.duality.frontier import total_variation

TIMES = [0.1, 0.3, 1.0, 3.0]
STEP_SIZES = (0.1, 0.05, 0.025, 0.0125)


def identities(results: PartResults, grid: Grid, laws: list[Tensor], beta: float) -> None:
    """T1: J = J* - beta KL(q || pi*); and J never falls along the gradient flow."""
    problem = grid.problem
    optimum = problem.optimum(beta)
    previous = -math.inf
    fall = 0.0
    for time, law in zip([0.0, *TIMES], [problem.reference, *laws], strict=True):
        # Eigenvectors leave tiny negative masses in the tails, which have no logarithm.
        positive = law.clamp(min=1e-300)
        distance = float((positive * (positive.log() - optimum.log())).sum())
        value = problem.value(positive, beta)
        error = abs(problem.best_value(beta) - value - beta * distance)
        results.positive("J* - J = beta KL(law, pi*)", f"t={time:g}", 0, error, 1e-5)
        fall = max(fall, previous - value)
        previous = value
    results.positive("J falls along the policy's flow by", "Fokker-Planck", 0, fall, 0.0)
    distance = total_variation(laws[-1], optimum)
    results.report("1-D TV of the policy's flow to pi* at t=3", "Fokker-Planck", 0, distance)


def quantile_policy(
    results: PartResults, grid: Grid, laws: list[Tensor], beta: float, counts: Sequence[int]
) -> None:
    """T2: a policy of quantiles that ascends J, against the Fokker-Planck equation.

    Two independent numerical methods for the same flow: a mistake in one shows.
    """
    times = [t for t in TIMES if t <= 1]
    errors = []
    for count in counts:
        start = quantiles(grid, grid.problem.reference, count)
        policy = quantile_flow(grid.landscape, start, beta, times)
        errors.append(
            max(
                float((x - quantiles(grid, law, count)).abs().mean())
                for x, law in zip(policy, laws, strict=False)
            )
        )
        results.report(
            "W1 of quantile policy and Fokker-Planck", f"{count} quantiles", 0, errors[-1]
        )
    check = "W1 of quantile policy and Fokker-Planck, t <= 1"
    results.positive(check, f"{counts[-1]} quantiles", 0, errors[-1], 0.01)
    # The error must fall by a fifth at least each time the number of quantiles doubles.
    growth = max(fine / coarse for coarse, fine in itertools.pairwise(errors))
    results.positive("W1 to Fokker-Planck, finer over coarser policy", "quantiles", 0, growth, 0.8)
    results.plot_data["quantile rate"] = (list(counts), errors)


def natural_gradient(results: PartResults, grid: Grid, laws: list[Tensor], beta: float) -> None:
    """T4: the natural policy gradient, integrated, against its closed form

        q_t ~ p_ref exp((1 - e^(-beta t)) r / beta).

    It stays on the frontier. The Wasserstein flow, which has the same limit, does not.
    """
    problem = grid.problem

    def change(log_q: Tensor) -> Tensor:
        # Replicator equation: d log q / dt is the regularised reward minus its mean, which keeps
        # the mass.
        regularised = problem.reward - beta * (log_q - problem.log_ref)
        return regularised - (log_q.exp() * regularised).sum()

    log_q, now = problem.log_ref, 0.0
    worst_tv = worst_gap = 0.0
    path = []
    for time in TIMES:
        count = round((time - now) / 0.005)
        log_q = runge_kutta(change, log_q, (time - now) / count, count)
        now = time
        # The closed form is the optimum at a beta that falls from infinity to beta.
        closed = problem.optimum(beta / (1 - math.exp(-beta * time)))
        worst_tv = max(worst_tv, total_variation(log_q.exp(), closed))
        worst_gap = max(worst_gap, abs(problem.gap(closed)))
        path.append((problem.kl(closed), problem.mean_reward(closed)))
    results.positive("natural gradient path, TV to its closed form", "NPG", 0, worst_tv, 1e-6)
    results.positive(names.PATH_GAP, "NPG", 0, worst_gap, 1e-6)
    gaps = [problem.gap(law) for law in laws]
    results.control(names.PATH_GAP, "Wasserstein flow", 0, max(gaps), 1e-6)
    curve = [problem.point(10 ** (k / 10)) for k in range(-4, 21)]
    results.plot_data["reward and KL"] = {
        "frontier": curve,
        "natural gradient": path,
        "Wasserstein flow": [(problem.kl(q), problem.mean_reward(q)) for q in laws],
    }


def step_rate(results: PartResults, grid: Grid, laws: list[Tensor], beta: float) -> None:
    """T2: the law of the Euler scheme is wrong by O(h). Measured on its exact law."""
    start, law = grid.problem.reference, laws[TIMES.index(1.0)]
    euler = [grid.euler_1d(start, beta, h, round(1 / h)) for h in STEP_SIZES]
    rates = {
        "TV": [total_variation(law, q) for q in euler],
        "W1": [grid.wasserstein(law, q) for q in euler],
    }
    for name, errors in rates.items():
        order = slope(STEP_SIZES, errors)
        results.report(f"order of the {name} error in the step", "Euler", 0, order)
        check = f"distance from 1 of the order of the {name} error in the step"
        results.positive(check, "Euler", 0, abs(order - 1), 0.15)
    results.plot_data["step rate"] = (list(STEP_SIZES), rates)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of log y on log x: the order of an error that is a power of x."""
    a = torch.tensor([math.log(v) for v in x], dtype=torch.float64)
    b = torch.tensor([math.log(v) for v in y], dtype=torch.float64)
    a = a - a.mean()
    return float((a * b).sum() / (a * a).sum())
