"""Gradient rows against autograd through one-hots, and gradients that are not finite."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nabla_core.config import NablaConfig, Objective
from nabla_core.errors import NonFiniteError
from nabla_core.model_config import Runtime
from nabla_core.models.loading import RewardModel
from nabla_core.requests import Sweep
from tests.core.reference import Literal, close, product_rows, rolled_out, serve
from tests.core.tiny import Family

OBJECTIVES = [
    Objective(),
    Objective(nll_coeff=0.0),
    Objective(nll_coeff=0.7, reward_coeff=0.3),
    Objective(nll_coeff=1.0, reward_coeff=0.0),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@pytest.mark.parametrize(
    "cache",
    [{}, {"reuse": False}, {"gradient_checkpointing": True}],
    ids=["reuse", "read again", "checkpoint"],
)
def test_gradient_rows_equal_autograd_through_one_hots(
    family: Family, objective: Objective, cache: dict[str, bool]
):
    engines = family.engines(Runtime(device="cpu", **cache))
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines)
    config = NablaConfig(objective=objective)
    sweeps = serve(
        engines,
        [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)],
    )
    for context, response, swept in zip(contexts, responses, sweeps, strict=True):
        found = product_rows(engines, swept.gradients, response.tokens)
        expected = literal.gradient(context, response.tokens, objective)
        real = literal.vocabulary
        assert found.shape == expected.shape
        close(found[:, :real], expected[:, :real])


def test_likelihoods_do_not_depend_on_the_block_they_are_formed_in(
    plain: Family, monkeypatch: pytest.MonkeyPatch
):
    engines = plain.engines()
    contexts, responses = rolled_out(engines)
    config = NablaConfig()
    requests = [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]
    whole = serve(engines, requests)
    for module in ("models.forward", "guides.gradient"):
        monkeypatch.setattr(f"nabla_core.{module}.BLOCK", 50)
    parts = serve(engines, requests)
    for response, a, b in zip(responses, whole, parts, strict=True):
        torch.testing.assert_close(
            a.gradients.lm.likelihood.log_probability, b.gradients.lm.likelihood.log_probability
        )
        torch.testing.assert_close(
            product_rows(engines, a.gradients, response.tokens),
            product_rows(engines, b.gradients, response.tokens),
        )


def test_a_gradient_that_is_not_finite_is_an_error(plain: Family, monkeypatch: pytest.MonkeyPatch):
    """The reward may be finite where its gradient is not."""
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 1)
    reward = RewardModel.reward

    def steep(rm: RewardModel, hidden: Tensor) -> Tensor:
        # A root of zero: value 0, slope infinite.
        return reward(rm, hidden) + (hidden - hidden.detach()).square().sum(-1).sqrt()

    monkeypatch.setattr(RewardModel, "reward", steep)
    (found,) = serve(engines, [Sweep(contexts[0], responses[0], 0, NablaConfig())])
    assert isinstance(found, NonFiniteError)
    assert "gradient" in str(found)
