"""Estimators against the closed forms they estimate, on responses that can be enumerated."""

import math

import pytest
import torch

from pipeline.duality.best_of_n import best_of_n_law
from pipeline.duality.findings import PartResults
from pipeline.duality.language.arm_recorder import ArmRecorder
from pipeline.duality.language.estimators import (
    Estimate,
    answer_kl,
    best_of,
    estimate_optimum,
    kl_bounds,
    marginal_kl,
    mean_over_prompts,
)
from pipeline.duality.tokens.enumerable import EnumeratedModels, random_models


@pytest.fixture(scope="module")
def models() -> EnumeratedModels:
    return random_models(0)


def drawn(law: torch.Tensor, prompts: int, count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    flat = law.multinomial(prompts * count, replacement=True, generator=generator)
    return flat.reshape(prompts, count)


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


def test_where_the_weights_are_few_nothing_is_estimated(models: EnumeratedModels):
    reward = models.problem.reward[drawn(models.problem.reference, 3, 2_000, 1)]
    found = estimate_optimum(reward, 0.1)
    assert not found.estimable.any()
    with pytest.raises(ValueError, match=r"not estimable at beta 0\.1: ESS"):
        found.point()
    results = PartResults("language")
    recorder = ArmRecorder(results, reward, {2.0: estimate_optimum(reward, 2.0), 0.1: found}, 0)
    recorder.frontier()
    refused = [f for f in results.findings if f.verdict == "not estimable"]
    assert [f.arm for f in refused] == ["pi*, beta 0.1"]
    assert refused[0].value == pytest.approx(float(found.ess.min()))
    assert refused[0].threshold == 300
    assert [beta for beta, _, _ in results.plot_data["frontier"]] == [2.0]


def test_a_gap_needs_frontier_points_on_both_sides(models: EnumeratedModels):
    reward = models.problem.reward[drawn(models.problem.reference, 4, 20_000, 2)]
    results = PartResults("language")
    recorder = ArmRecorder(results, reward, {b: estimate_optimum(reward, b) for b in (2.0, 1.0)}, 0)
    recorder.frontier()
    on = models.problem.point(1.5)
    numbers = {"E[r]": Estimate(on[1], 0.0)}
    recorder.with_density("RL", Estimate(on[0], 0.0), numbers, gap=True)
    recorder.with_density("too far", Estimate(5.0, 0.0), numbers, gap=True)
    gaps = {f.arm: f for f in results.findings if f.check.startswith("gap to the frontier")}
    found = [f for f in results.findings if f.check == "gap to the frontier"]
    assert [f.arm for f in found] == ["RL"]
    assert abs(found[0].value) < 0.1
    assert gaps["too far"].verdict == "not estimable"


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
