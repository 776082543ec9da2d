"""The closed forms, against each other and against brute force."""

import math

import pytest
import torch

from pipeline.duality.frontier import RegularisedProblem, kl, total_variation


@pytest.fixture(scope="module")
def problem() -> RegularisedProblem:
    generator = torch.Generator().manual_seed(0)
    log_ref = torch.randn(50, dtype=torch.float64, generator=generator).log_softmax(0)
    return RegularisedProblem(log_ref, torch.randn(50, dtype=torch.float64, generator=generator))


def laws(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        (3 * torch.randn(50, dtype=torch.float64, generator=generator)).softmax(0)
        for _ in range(count)
    ]


@pytest.mark.parametrize("beta", [0.2, 1.0, 7.0])
def test_the_value_of_any_law_is_the_best_less_its_distance(
    problem: RegularisedProblem, beta: float
):
    optimum = problem.optimum(beta)
    assert problem.value(optimum, beta) == pytest.approx(problem.best_value(beta), abs=1e-12)
    for law in laws(20):
        expected = problem.best_value(beta) - beta * kl(law, optimum)
        assert problem.value(law, beta) == pytest.approx(expected, abs=1e-12)
        assert problem.value(law, beta) < problem.best_value(beta)


def test_no_law_of_the_same_kl_earns_more(problem: RegularisedProblem):
    for law in laws(20):
        assert problem.gap(law) > 0
        assert problem.point(problem.fitted_beta(law))[1] == pytest.approx(
            max(problem.mean_reward(law), problem.mean_reward(problem.reference)), abs=1e-3
        )
    for beta in (0.3, 1.0, 3.0):
        optimum = problem.optimum(beta)
        assert problem.gap(optimum) == pytest.approx(0, abs=1e-9)
        assert problem.fitted_beta(optimum) == pytest.approx(beta, rel=1e-9)
        assert problem.point(beta)[0] == pytest.approx(problem.kl(optimum), abs=1e-12)


def test_a_gaussian_by_hand():
    """p_ref = N(0, 1), r(x) = x: pi*_beta = N(1 / beta, 1), KL = 1 / (2 beta^2)."""
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    problem = RegularisedProblem((-(x**2) / 2).log_softmax(0), x)
    for beta in (0.5, 1.0, 2.0):
        divergence, reward = problem.point(beta)
        assert reward == pytest.approx(1 / beta, abs=1e-9)
        assert divergence == pytest.approx(1 / (2 * beta**2), abs=1e-9)
        assert problem.log_z(beta) == pytest.approx(1 / (2 * beta**2), abs=1e-9)
        assert problem.frontier(divergence) == pytest.approx(1 / beta, abs=1e-9)


def test_bad_numbers_are_named():
    fine = torch.zeros(4, dtype=torch.float64).log_softmax(0)
    with pytest.raises(ValueError, match="a reward is not finite"):
        RegularisedProblem(fine, torch.tensor([0.0, math.inf, 0.0, 0.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="log-probability of the reference is not finite"):
        RegularisedProblem(torch.tensor([0.0, -math.inf, 0.0, 0.0], dtype=torch.float64), fine)
    with pytest.raises(ValueError, match="sums to 4"):
        RegularisedProblem(torch.zeros(4, dtype=torch.float64), fine)
    for beta in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="beta must be positive"):
            RegularisedProblem(fine, fine).optimum(beta)


def test_total_variation_and_kl_by_hand():
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25])
    assert total_variation(p, q) == pytest.approx(0.25)
    assert kl(p, q) == pytest.approx(0.5 * math.log(2))
