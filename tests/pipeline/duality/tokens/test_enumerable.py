"""The tables are those of the models."""

import pytest
import torch

from pipeline.duality.tokens.enumerable import (
    STATES,
    EnumeratedModels,
    V,
    digits,
    log_law,
    number,
)


def test_digits_and_number_are_inverse():
    y = digits()
    assert torch.equal(number(y), torch.arange(STATES))
    assert y[V**3 + 2].tolist() == [1, 0, 0, 2]


def test_the_tables_are_the_models(models: EnumeratedModels):
    """Laws, rewards and gradient rows against autograd through one-hots."""
    assert float(models.problem.reference.sum()) == pytest.approx(1, abs=1e-12)
    assert models.problem.mean_reward(models.problem.reference) == pytest.approx(0, abs=1e-6)
    y = digits()[1234]
    hard = torch.nn.functional.one_hot(y, V).double().requires_grad_()
    lm, rm = models.lm.double(), models.rm.double()
    start = torch.zeros(1, 1, dtype=torch.int64)
    try:
        table = lm.get_input_embeddings().weight
        embedded = torch.cat([table[start], (hard @ table)[None]], 1)
        log_p = lm(inputs_embeds=embedded).logits[0, :-1].log_softmax(-1)
        total = (log_p * hard).sum()
        (rows,) = torch.autograd.grad(total, hard)
        assert float(total.detach()) == pytest.approx(float(models.problem.log_ref[1234]), abs=1e-5)
        assert torch.allclose(rows, models.likelihood_rows[1234], atol=1e-5)
        table = rm.get_input_embeddings().weight
        embedded = torch.cat([table[start], (hard @ table)[None]], 1)
        reward = rm.score(rm.model(inputs_embeds=embedded).last_hidden_state[0, -1]).squeeze()
        (rows,) = torch.autograd.grad(reward, hard)
        assert float(reward.detach()) == pytest.approx(float(models.problem.reward[1234]), abs=1e-5)
        assert torch.allclose(rows, models.reward_rows[1234], atol=1e-5)
    finally:
        models.lm.float(), models.rm.float()


def test_the_law_of_an_lm_is_that_of_its_table(models: EnumeratedModels):
    found = log_law(models.policy().double())
    assert torch.allclose(found, models.problem.log_ref, atol=1e-5)
    assert float(found.exp().sum().detach()) == pytest.approx(1, abs=1e-12)
