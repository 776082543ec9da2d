"""RL, best-of-N and the released dynamics on enumerated responses."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from nabla_core import DTO, MH, NablaConfig, Objective, Sampling, mh, nabla
from pipeline.duality.best_of_n import best_of_n_kl_bound, best_of_n_law
from pipeline.duality.findings import PartResults, failed_self_checks
from pipeline.duality.frontier import RegularisedProblem, total_variation
from pipeline.duality.tokens import policies
from pipeline.duality.tokens.dto_law import decoding_law, joint_descent, push_forward
from pipeline.duality.tokens.enumerable import STATES, EnumeratedModels, T, log_law, random_models
from pipeline.duality.tokens.kernels import follow, suffix_resampling
from pipeline.duality.tokens.library_runs import counts
from pipeline.duality.tokens.metrics import sampling_bound
from pipeline.duality.tokens.monte_carlo import decode
from pipeline.duality.tokens.released import NULL, reach, released


@pytest.fixture(scope="module")
def models() -> EnumeratedModels:
    return random_models(0)


def test_best_of_n_by_enumeration_of_pairs():
    """Rewards with a tie: the first of equals is kept, so a tie shares by the reference."""
    mass = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    reward = torch.tensor([2.0, 0.0, 2.0, 1.0], dtype=torch.float64)
    expected = torch.zeros(4, dtype=torch.float64)
    for i in range(4):
        for j in range(4):
            winner = j if reward[j] > reward[i] else i
            expected[winner] += mass[i] * mass[j]
    law = best_of_n_law(RegularisedProblem(mass.log(), reward), 2)
    assert torch.allclose(law, expected, atol=1e-12)


@pytest.mark.parametrize("n", [1, 4, 16])
def test_best_of_n_stays_within_its_bound(models: EnumeratedModels, n: int):
    law = best_of_n_law(models.problem, n)
    assert float(law.sum()) == pytest.approx(1, abs=1e-12)
    assert models.problem.kl(law) <= best_of_n_kl_bound(n) + 1e-12
    assert best_of_n_kl_bound(n) == pytest.approx(math.log(n) - (n - 1) / n)


def test_training_climbs_to_its_own_beta(models: EnumeratedModels):
    """At 300 steps, half of them at beta: enough to judge_claims beta from 2 beta."""
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


def test_the_law_of_an_lm_is_that_of_its_table(models: EnumeratedModels):
    found = log_law(models.policy().double())
    assert torch.allclose(found, models.problem.log_ref, atol=1e-5)
    assert float(found.exp().sum().detach()) == pytest.approx(1, abs=1e-12)


def test_training_cools_down_to_its_own_beta():
    assert policies._annealed(0.0, 0.25) == policies.START_BETA
    assert policies._annealed(0.25, 0.25) == pytest.approx(1.0)
    assert policies._annealed(0.5, 0.25) == policies._annealed(0.9, 0.25) == 0.25
    assert policies._annealed(0.0, 8.0) == 8.0


def test_rloo_without_the_kl_is_told_apart(models: EnumeratedModels):
    law = policies.rloo(models, 1e-6, steps=120, learning_rate=1e-2, batch=256, seed=0)
    assert models.problem.fitted_beta(law) < 0.7


def test_grpo_rests_where_backward_induction_says(models: EnumeratedModels):
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


def test_grpo_through_trl_runs_and_climbs(models: EnumeratedModels):
    from pipeline.duality.tokens.trl_grpo import grpo  # noqa: PLC0415 - slow to import

    law = grpo(models, 1.0, steps=25, learning_rate=5e-3, batch=64, seed=0)
    assert float(law.sum()) == pytest.approx(1, abs=1e-9)
    assert models.problem.mean_reward(law) > 0.1


def test_descent_that_takes_no_step_goes_nowhere(models: EnumeratedModels):
    stay = joint_descent(models, DTO(learning_rate=0.0), 1.0, 1.0)
    assert torch.equal(stay.destination, torch.arange(STATES))
    assert stay.largest_move == 0
    assert not stay.changed.any()
    law = push_forward(models.problem.reference, stay.destination)
    assert torch.equal(law, models.problem.reference)


def test_descent_lowers_the_loss_it_descends(models: EnumeratedModels):
    """In the mean: on tokens no single step is sure to."""
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


SETTINGS = {
    "published": NablaConfig(rollout=Sampling(1.0)),
    "many flips": NablaConfig(
        rollout=Sampling(1.0),
        dto=DTO(learning_rate=0.1, max_iters=30),
        objective=Objective(nll_coeff=1.0, reward_coeff=4.0),
    ),
}


def test_monte_carlo_runs_have_the_law_computed_for_them(models: EnumeratedModels):
    generator = torch.Generator().manual_seed(0)
    configs = {setting.name: setting.config for setting in released()}
    null = decoding_law(models, configs[NULL])
    for name in ("lr .1, 50 steps, lambda 4", "mirror, beta 1, resample at 1"):
        law = decoding_law(models, configs[name])
        seen = decode(models, configs[name], 20_000, generator)
        seen = seen / seen.sum()
        bound = sampling_bound(law, 20_000, generator)
        assert total_variation(seen, law) <= bound < total_variation(seen, null)


def test_the_published_descent_changes_no_token_out_of_its_reach(models: EnumeratedModels):
    descent = joint_descent(models, DTO(), 1.0, 1e-3)
    results = PartResults("tokens")
    reach(results, models, "DTO published", 0, descent)
    found = {f.check: f.value for f in results.findings}
    assert failed_self_checks(results.findings) == []
    assert found["largest move of a logit"] == pytest.approx(0.1145, abs=0.005)
    assert 0 < found["share of tokens changed"] < found["share of tokens within reach"]
    # A reach that is understated is noticed.
    reach(
        results, models, "DTO published", 0, replace(descent, largest_move=descent.largest_move / 4)
    )
    assert [f.check for f in failed_self_checks(results.findings)] == [
        "share of tokens changed out of reach"
    ]


def test_the_products_loop_has_the_law_computed_for_it(models: EnumeratedModels):
    generator = torch.Generator().manual_seed(0)
    laws, seen = {}, {}
    for name, config in SETTINGS.items():
        laws[name] = decoding_law(models, config)
        found = counts(models, partial(nabla, config=config, seed=1, max_tokens=T), 500)
        seen[name] = found / found.sum()
        bound = sampling_bound(laws[name], 500, generator)
        assert total_variation(seen[name], laws[name]) <= bound
    assert total_variation(seen["many flips"], laws["published"]) > bound


def test_the_products_sampler_has_its_kernels_law(models: EnumeratedModels):
    law, _ = follow(
        suffix_resampling(models, 0.5), models.problem.reference, models.problem.optimum(0.5), 12
    )
    found = counts(models, partial(mh, config=MH(beta=0.5, steps=12), seed=1, max_tokens=T), 500)
    bound = sampling_bound(law, 500, torch.Generator().manual_seed(0))
    assert total_variation(found / found.sum(), law) <= bound
    assert total_variation(found / found.sum(), models.problem.reference) > bound


def test_every_released_setting_is_one_the_enumeration_covers(models: EnumeratedModels):
    names = [setting.name for setting in released()]
    assert len(set(names)) == len(names) == 6
