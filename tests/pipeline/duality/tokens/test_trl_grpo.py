"""GRPO with TRL."""

import pytest

from pipeline.duality.tokens.enumerable import (
    EnumeratedModels,
)


def test_grpo_with_trl_raises_the_reward(models: EnumeratedModels):
    from pipeline.duality.tokens.trl_grpo import grpo  # noqa: PLC0415 - slow to import

    law = grpo(models, 1.0, steps=25, learning_rate=5e-3, batch=64, seed=0)
    assert float(law.sum()) == pytest.approx(1, abs=1e-9)
    assert models.problem.mean_reward(law) > 0.1
