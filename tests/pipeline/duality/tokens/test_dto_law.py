"""The exact laws of DTO and of nabla decoding."""

from dataclasses import replace

import pytest
import torch

from nabla_core import DTO, NablaConfig, Sampling
from pipeline.duality.tokens.dto_law import decoding_law, joint_descent, push_forward
from pipeline.duality.tokens.enumerable import (
    STATES,
    EnumeratedModels,
)


def test_descent_without_a_step_is_the_identity(models: EnumeratedModels):
    stay = joint_descent(models, DTO(learning_rate=0.0), 1.0, 1.0)
    assert torch.equal(stay.destination, torch.arange(STATES))
    assert stay.largest_move == 0
    assert not stay.changed.any()
    law = push_forward(models.problem.reference, stay.destination)
    assert torch.equal(law, models.problem.reference)


def test_descent_lowers_the_loss_it_descends(models: EnumeratedModels):
    """In the mean over responses: on tokens a single one may get a higher loss."""
    goes = joint_descent(models, DTO(learning_rate=0.1, max_iters=100), 2.0, 1.0).destination
    loss = -(models.problem.log_ref + 2 * models.problem.reward)
    weight = models.problem.reference
    assert float(weight @ loss[goes]) < float(weight @ loss)


def test_a_decoding_law_by_hand_where_nothing_is_optimised(models: EnumeratedModels):
    """Learning rate 0, resampling at 1, first position only: the null arm's first step."""
    config = NablaConfig(rollout=Sampling(1.0), resample=Sampling(1.0), dto=DTO(learning_rate=0.0))
    law = decoding_law(models, config)
    assert float(law.sum()) == pytest.approx(1, abs=1e-6)
    assert models.problem.mean_reward(law) > models.problem.mean_reward(models.problem.reference)
    sure = decoding_law(
        models, replace(config, select=replace(config.select, confidence_threshold=0))
    )
    assert torch.equal(sure, models.problem.reference)
    with pytest.raises(ValueError, match="temperature 1"):
        decoding_law(models, NablaConfig())
