"""Estimators against the closed forms they estimate, on responses that can be enumerated."""

import math

import pytest
import torch

from pipeline.duality.best_of_n import best_of_n_law
from pipeline.duality.language.estimators import (
    answer_kl,
    best_of,
    estimate_optimum,
    kl_bounds,
    marginal_kl,
    mean_over_prompts,
)
from pipeline.duality.tokens.enumerable import EnumeratedModels
from tests.pipeline.duality.language.drawn import drawn


@pytest.mark.parametrize("beta", [2.0, 1.0])
def test_importance_sampling_meets_the_frontier(models: EnumeratedModels, beta: float):
    problem = models.problem
    reward = problem.reward[drawn(problem.reference, 8, 20_000, 0)]
    found = estimate_optimum(reward, beta)
    assert found.estimable.all()
    divergence, mean = found.point()
    exact_kl, exact_mean = problem.point(beta)
    assert abs(mean.value - exact_mean) < 4 * mean.error
    assert abs(divergence.value - exact_kl) < 5 * divergence.error
    assert float(found.log_z.mean()) == pytest.approx(problem.log_z(beta), abs=0.02)
    # The standard error is the spread of the estimates.
    spread = float(found.reward.std())
    claimed = float(found.variance.sqrt().mean())
    assert 0.3 < spread / claimed < 2.5


def test_the_bounds_hold_the_kl_of_a_sampler(models: EnumeratedModels):
    problem = models.problem
    reference = problem.reward[drawn(problem.reference, 6, 20_000, 3)]
    optima = [estimate_optimum(reference, beta) for beta in (4.0, 2.0, 1.0)]
    for law in (problem.optimum(1.0), best_of_n_law(problem, 4), problem.reference):
        seen = drawn(law, 6, 2_000, 4)
        bounds = kl_bounds(problem.reward[seen], problem.log_ref[seen], reference, optima)
        assert bounds.low - 0.02 <= problem.kl(law) <= bounds.high
    seen = drawn(problem.optimum(1.0), 6, 2_000, 5)
    bounds = kl_bounds(problem.reward[seen], problem.log_ref[seen], reference, optima)
    # At its own beta the variational bound is tight.
    assert bounds.low == pytest.approx(problem.kl(problem.optimum(1.0)), abs=0.15)


def test_best_of_n_from_reference_samples(models: EnumeratedModels):
    problem = models.problem
    reward = problem.reward[drawn(problem.reference, 5, 8_000, 6)]
    for n in (1, 4, 16):
        exact = problem.mean_reward(best_of_n_law(problem, n))
        assert float(best_of(reward, reward, n).mean()) == pytest.approx(exact, abs=0.06)


def test_marginal_and_answer_kl():
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(4, 20_000, dtype=torch.float64, generator=generator)
    same = torch.randn(4, 500, dtype=torch.float64, generator=generator)
    assert abs(marginal_kl(same, reference).value) < 0.01
    # N(1, 1) against N(0, 1) has a KL of 1/2; ten bins lose some of it, and add none.
    assert 0.35 < marginal_kl(same + 1, reference).value < 0.5
    fair = torch.randint(2, (4, 20_000), generator=generator)
    always = torch.ones(4, 200, dtype=torch.int64)
    assert answer_kl(always, fair).value == pytest.approx(math.log(2), abs=0.02)
    assert abs(answer_kl(fair[:, :500], fair).value) < 0.01


def test_means_and_their_errors():
    values = torch.tensor([[1.0, 3.0], [5.0, 5.0]], dtype=torch.float64)
    found = mean_over_prompts(values)
    assert found.value == 3.5
    assert found.error == pytest.approx(math.sqrt(2 / 2) / 2)


def test_bad_numbers_are_refused(models: EnumeratedModels):
    fine = torch.zeros(1, 10, dtype=torch.float64)
    with pytest.raises(ValueError, match="beta must be positive"):
        estimate_optimum(fine, 0.0)
    with pytest.raises(ValueError, match="a reward is not finite"):
        estimate_optimum(fine + math.nan, 1.0)
