"""RL on enumerated responses, and the fixed point of GRPO."""

import pytest
import torch

from pipeline.duality.tokens import policies
from pipeline.duality.tokens.enumerable import (
    EnumeratedModels,
)


def test_training_reaches_its_own_beta(models: EnumeratedModels):
    """At 300 steps, half of them at beta: enough to distinguish beta from 2 beta."""
    exact = policies.exact_gradient(models, 1.0, steps=300, learning_rate=1e-2)
    sampled = policies.rloo(models, 1.0, steps=300, learning_rate=1e-2, batch=256, seed=0)
    for law in (exact, sampled):
        assert models.problem.gap(law) < 0.15
        assert models.problem.fitted_beta(law) == pytest.approx(1.0, rel=0.12)
        assert (
            models.problem.value(law, 1.0)
            > models.problem.value(models.problem.reference, 1.0) + 0.5
        )
    gap = models.problem.gap
    assert gap(policies.exact_gradient(models, 1.0, steps=15, learning_rate=1e-2)) > gap(exact)


def test_beta_is_annealed_over_the_first_half():
    assert policies._annealed(0.0, 0.25) == policies.START_BETA
    assert policies._annealed(0.25, 0.25) == pytest.approx(1.0)
    assert policies._annealed(0.5, 0.25) == policies._annealed(0.9, 0.25) == 0.25
    assert policies._annealed(0.0, 8.0) == 8.0


def test_rloo_without_the_kl_has_another_beta(models: EnumeratedModels):
    law = policies.rloo(models, 1e-6, steps=120, learning_rate=1e-2, batch=256, seed=0)
    assert models.problem.fitted_beta(law) < 0.7


def test_the_fixed_point_of_grpo_is_not_the_optimum(models: EnumeratedModels):
    """The fixed point is stationary for what GRPO ascends, and is not pi*_beta."""
    law = policies.grpo_fixed_point(models, 1.0, 8)
    assert float(law.sum()) == pytest.approx(1, abs=1e-12)
    assert models.problem.gap(law) > 0.01
    assert models.problem.fitted_beta(law) > 1.05
    # With one token nothing is myopic: only beta G / (G - 1) remains. Last tokens show it.
    ratio = (law.log() - models.problem.log_ref).reshape(-1, 8)
    reward = models.problem.reward.reshape(-1, 8) / (8 / 7)
    assert torch.allclose(
        ratio - ratio.mean(1, keepdim=True), reward - reward.mean(1, keepdim=True), atol=1e-10
    )
