"""Kernels over all 4,096 states in float64: stationary to 1e-12, or caught."""

import pytest
import torch

from pipeline.duality.findings import PartResults, failed_self_checks
from pipeline.duality.frontier import total_variation
from pipeline.duality.tokens import checks as tokens
from pipeline.duality.tokens import kernels
from pipeline.duality.tokens.config import TokensConfig
from pipeline.duality.tokens.enumerable import (
    STATES,
    EnumeratedModels,
    T,
    V,
    digits,
    number,
    random_models,
)
from pipeline.duality.tokens.gumbel import GumbelChains
from pipeline.duality.tokens.metrics import sampling_bound


@pytest.fixture(scope="module")
def models() -> EnumeratedModels:
    return random_models(0)


@pytest.mark.parametrize("beta", [1.0, 0.25])
@pytest.mark.parametrize("make", [kernels.suffix_resampling, kernels.discrete_langevin])
def test_a_corrected_kernel_is_stochastic_and_keeps_pi_star(
    models: EnumeratedModels, make, beta: float
):
    kernel, goal = make(models, beta), models.problem.optimum(beta)
    assert float(kernel.min()) >= 0
    assert float((kernel.sum(1) - 1).abs().max()) < 1e-12
    assert kernels.stationarity_error(kernel, goal) < 1e-12
    _, distances = kernels.follow(kernel, models.problem.reference, goal, 30)
    assert kernels.largest_rise(distances) <= 0
    assert kernels.stationarity_error(kernel, models.problem.optimum(beta * 1.01)) > 1e-4


def test_suffix_resampling_against_its_definition(models: EnumeratedModels):
    """Rows of the matrix from conditionals, one cut at a time."""
    kernel = kernels.suffix_resampling(models, 1.0, metropolis=False)
    y = digits()
    for state in (0, 77, 4095):
        expected = torch.zeros(STATES, dtype=torch.float64)
        for cut in range(T):
            same = (y[:, :cut] == y[state, :cut]).all(1)
            log_p = torch.zeros(STATES, dtype=torch.float64)
            for t in range(cut, T):
                log_p += models.conditionals[torch.arange(STATES), t, y[:, t]]
            expected += same * log_p.exp() / T
        assert torch.allclose(kernel[state], expected, atol=1e-12)
    assert kernels.stationarity_error(kernel, models.problem.reference) < 1e-12


def test_a_response_and_its_number_are_one():
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


def test_the_stage_passes_its_chains_and_catches_broken_ones(models: EnumeratedModels, monkeypatch):
    """Mutations: no acceptance test at all, and a beta off by five per cent."""
    settings = TokensConfig(chain_steps=60)

    def found() -> set[tuple[str, str]]:
        results = PartResults("tokens")
        tokens._chains(results, models, settings, 0)
        return {
            (f.kind, f.arm) for f in failed_self_checks(results.findings) if "rises" not in f.check
        }

    assert found() == set()
    original = kernels.suffix_resampling
    broken_ones = (
        lambda w, beta, metropolis=True: original(w, beta, metropolis=False),
        lambda w, beta, metropolis=True: original(w, 1.05 * beta, metropolis=metropolis),
    )
    for mutation in broken_ones:
        monkeypatch.setattr(kernels, "suffix_resampling", mutation)
        assert ("positive", "suffix resampling + Metropolis") in found()


def test_gumbel_noise_given_a_response_gives_that_response(models: EnumeratedModels):
    chains = GumbelChains(models, 1.0, step_size=0.5, gradient=True)
    law = torch.zeros(STATES, dtype=torch.float64)
    law[[5, 900]] = 0.5
    seen, _ = chains.run(law, 500, 0, torch.Generator().manual_seed(0))
    assert set(seen.nonzero().flatten().tolist()) == {5, 900}


@pytest.mark.parametrize("gradient", [True, False])
def test_gumbel_mala_keeps_pi_star_and_uncorrected_it_does_not(
    models: EnumeratedModels, gradient: bool
):
    goal = models.problem.optimum(1.0)
    generator = torch.Generator().manual_seed(0)
    bound = sampling_bound(goal, 20_000, generator)
    off = {}
    for metropolis in (True, False):
        chains = GumbelChains(models, 1.0, step_size=0.5, gradient=gradient, metropolis=metropolis)
        seen, _ = chains.run(goal, 20_000, 10, generator)
        off[metropolis] = total_variation(seen / seen.sum(), goal)
    assert off[True] <= bound < off[False]
