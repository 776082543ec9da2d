"""The closed forms, against each other and against brute force."""

import math

import pytest
import torch

from pipeline.duality.frontier import Target, kl, total_variation


@pytest.fixture(scope="module")
def target() -> Target:
    generator = torch.Generator().manual_seed(0)
    log_ref = torch.randn(50, dtype=torch.float64, generator=generator).log_softmax(0)
    return Target(log_ref, torch.randn(50, dtype=torch.float64, generator=generator))


def laws(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        (3 * torch.randn(50, dtype=torch.float64, generator=generator)).softmax(0)
        for _ in range(count)
    ]


@pytest.mark.parametrize("beta", [0.2, 1.0, 7.0])
def test_the_value_of_any_law_is_the_best_less_its_distance(target: Target, beta: float):
    optimum = target.optimum(beta)
    assert target.value(optimum, beta) == pytest.approx(target.best_value(beta), abs=1e-12)
    for law in laws(20):
        expected = target.best_value(beta) - beta * kl(law, optimum)
        assert target.value(law, beta) == pytest.approx(expected, abs=1e-12)
        assert target.value(law, beta) < target.best_value(beta)


def test_no_law_of_the_same_kl_earns_more(target: Target):
    for law in laws(20):
        assert target.gap(law) > 0
        assert target.point(target.fitted_beta(law))[1] == pytest.approx(
            max(target.mean_reward(law), target.mean_reward(target.reference)), abs=1e-3
        )
    for beta in (0.3, 1.0, 3.0):
        optimum = target.optimum(beta)
        assert target.gap(optimum) == pytest.approx(0, abs=1e-9)
        assert target.fitted_beta(optimum) == pytest.approx(beta, rel=1e-9)
        assert target.point(beta)[0] == pytest.approx(target.kl(optimum), abs=1e-12)


def test_a_gaussian_by_hand():
    """p_ref = N(0, 1), r(x) = x: pi*_beta = N(1 / beta, 1), KL = 1 / (2 beta^2)."""
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    target = Target((-(x**2) / 2).log_softmax(0), x)
    for beta in (0.5, 1.0, 2.0):
        divergence, reward = target.point(beta)
        assert reward == pytest.approx(1 / beta, abs=1e-9)
        assert divergence == pytest.approx(1 / (2 * beta**2), abs=1e-9)
        assert target.log_z(beta) == pytest.approx(1 / (2 * beta**2), abs=1e-9)
        assert target.frontier(divergence) == pytest.approx(1 / beta, abs=1e-9)


def test_bad_numbers_are_named():
    fine = torch.zeros(4, dtype=torch.float64).log_softmax(0)
    with pytest.raises(ValueError, match="a reward is not finite"):
        Target(fine, torch.tensor([0.0, math.inf, 0.0, 0.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="log-probability of the reference is not finite"):
        Target(torch.tensor([0.0, -math.inf, 0.0, 0.0], dtype=torch.float64), fine)
    with pytest.raises(ValueError, match="sums to 4"):
        Target(torch.zeros(4, dtype=torch.float64), fine)
    for beta in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="beta must be positive"):
            Target(fine, fine).optimum(beta)


def test_total_variation_and_kl_by_hand():
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25])
    assert total_variation(p, q) == pytest.approx(0.25)
    assert kl(p, q) == pytest.approx(0.5 * math.log(2))
