"""RL, best-of-N and the released dynamics on enumerated responses."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from nabla_core import DTO, MH, NablaConfig, Objective, Sampling, mh, nabla
from pipeline.duality.findings import Book, broken
from pipeline.duality.frontier import Target, total_variation
from pipeline.duality.tokens import policies
from pipeline.duality.tokens.dto_law import decoding_law, joint_descent, push_forward
from pipeline.duality.tokens.enumerable import STATES, T, World, log_law, world
from pipeline.duality.tokens.kernels import follow, suffix_resampling
from pipeline.duality.tokens.library_runs import counts
from pipeline.duality.tokens.monte_carlo import decode
from pipeline.duality.tokens.placement import draws_bound
from pipeline.duality.tokens.released import NULL, reach, released


@pytest.fixture(scope="module")
def here() -> World:
    return world(0)


def test_best_of_n_by_enumeration_of_pairs():
    """Rewards with a tie: the first of equals is kept, so a tie shares by the reference."""
    mass = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    reward = torch.tensor([2.0, 0.0, 2.0, 1.0], dtype=torch.float64)
    expected = torch.zeros(4, dtype=torch.float64)
    for i in range(4):
        for j in range(4):
            winner = j if reward[j] > reward[i] else i
            expected[winner] += mass[i] * mass[j]
    law = policies.best_of_n(Target(mass.log(), reward), 2)
    assert torch.allclose(law, expected, atol=1e-12)


@pytest.mark.parametrize("n", [1, 4, 16])
def test_best_of_n_stays_within_its_bound(here: World, n: int):
    law = policies.best_of_n(here.target, n)
    assert float(law.sum()) == pytest.approx(1, abs=1e-12)
    assert here.target.kl(law) <= policies.best_of_n_bound(n) + 1e-12
    assert policies.best_of_n_bound(n) == pytest.approx(math.log(n) - (n - 1) / n)


def test_training_climbs_to_its_own_beta(here: World):
    """At 300 steps, half of them at beta: enough to tell beta from 2 beta."""
    exact = policies.exact_gradient(here, 1.0, steps=300, rate=1e-2)
    sampled = policies.rloo(here, 1.0, steps=300, rate=1e-2, batch=256, seed=0)
    for law in (exact, sampled):
        assert here.target.gap(law) < 0.15
        assert here.target.fitted_beta(law) == pytest.approx(1.0, rel=0.12)
        assert here.target.value(law, 1.0) > here.target.value(here.target.reference, 1.0) + 0.5
    gap = here.target.gap
    assert gap(policies.exact_gradient(here, 1.0, steps=15, rate=1e-2)) > gap(exact)


def test_the_law_of_an_lm_is_that_of_its_table(here: World):
    found = log_law(here.policy().double())
    assert torch.allclose(found, here.target.log_ref, atol=1e-5)
    assert float(found.exp().sum().detach()) == pytest.approx(1, abs=1e-12)


def test_training_cools_down_to_its_own_beta():
    assert policies._cooled(0.0, 0.25) == policies.HOT
    assert policies._cooled(0.25, 0.25) == pytest.approx(1.0)
    assert policies._cooled(0.5, 0.25) == policies._cooled(0.9, 0.25) == 0.25
    assert policies._cooled(0.0, 8.0) == 8.0


def test_rloo_without_the_kl_is_told_apart(here: World):
    law = policies.rloo(here, 1e-6, steps=120, rate=1e-2, batch=256, seed=0)
    assert here.target.fitted_beta(law) < 0.7


def test_grpo_rests_where_backward_induction_says(here: World):
    """The fixed point is stationary for what GRPO ascends, and is not pi*_beta."""
    law = policies.grpo_fixed_point(here, 1.0, 8)
    assert float(law.sum()) == pytest.approx(1, abs=1e-12)
    assert here.target.gap(law) > 0.01
    assert here.target.fitted_beta(law) > 1.05
    # With one token nothing is myopic: only beta G / (G - 1) remains. Last tokens show it.
    ratio = (law.log() - here.target.log_ref).reshape(-1, 8)
    reward = here.target.reward.reshape(-1, 8) / (8 / 7)
    assert torch.allclose(
        ratio - ratio.mean(1, keepdim=True), reward - reward.mean(1, keepdim=True), atol=1e-10
    )


def test_grpo_through_trl_runs_and_climbs(here: World):
    from pipeline.duality.tokens.trl_grpo import grpo  # noqa: PLC0415 - slow to import

    law = grpo(here, 1.0, steps=25, rate=5e-3, batch=64, seed=0)
    assert float(law.sum()) == pytest.approx(1, abs=1e-9)
    assert here.target.mean_reward(law) > 0.1


def test_descent_that_takes_no_step_goes_nowhere(here: World):
    stay = joint_descent(here, DTO(learning_rate=0.0), 1.0, 1.0)
    assert torch.equal(stay.goes, torch.arange(STATES))
    assert stay.travel == 0
    assert not stay.changed.any()
    law = push_forward(here.target.reference, stay.goes)
    assert torch.equal(law, here.target.reference)


def test_descent_lowers_the_loss_it_descends(here: World):
    """In the mean: on tokens no single step is sure to."""
    goes = joint_descent(here, DTO(learning_rate=0.1, max_iters=100), 2.0, 1.0).goes
    loss = -(here.target.log_ref + 2 * here.target.reward)
    weight = here.target.reference
    assert float(weight @ loss[goes]) < float(weight @ loss)


def test_a_decoding_law_by_hand_where_nothing_is_optimised(here: World):
    """Learning rate 0, resampling at 1, first position only: the null arm's first step."""
    config = NablaConfig(rollout=Sampling(1.0), resample=Sampling(1.0), dto=DTO(learning_rate=0.0))
    law = decoding_law(here, config)
    assert float(law.sum()) == pytest.approx(1, abs=1e-6)
    assert here.target.mean_reward(law) > here.target.mean_reward(here.target.reference)
    sure = decoding_law(
        here, replace(config, select=replace(config.select, confidence_threshold=0))
    )
    assert torch.equal(sure, here.target.reference)
    with pytest.raises(ValueError, match="temperature 1"):
        decoding_law(here, NablaConfig())


SETTINGS = {
    "published": NablaConfig(rollout=Sampling(1.0)),
    "many flips": NablaConfig(
        rollout=Sampling(1.0),
        dto=DTO(learning_rate=0.1, max_iters=30),
        objective=Objective(nll_coeff=1.0, reward_coeff=4.0),
    ),
}


def test_monte_carlo_runs_have_the_law_computed_for_them(here: World):
    generator = torch.Generator().manual_seed(0)
    configs = {name: config for name, config, _ in released()}
    null = decoding_law(here, configs[NULL])
    for name in ("lr .1, 50 steps, lambda 4", "mirror, beta 1, resample at 1"):
        law = decoding_law(here, configs[name])
        seen = decode(here, configs[name], 20_000, generator)
        seen = seen / seen.sum()
        bound = draws_bound(law, 20_000, generator)
        assert total_variation(seen, law) <= bound < total_variation(seen, null)


def test_the_published_descent_changes_no_token_out_of_its_reach(here: World):
    descent = joint_descent(here, DTO(), 1.0, 1e-3)
    book = Book("tokens")
    reach(book, here, "DTO published", 0, descent)
    found = {f.check: f.value for f in book.findings}
    assert broken(book.findings) == []
    assert found["largest move of a logit"] == pytest.approx(0.1145, abs=0.005)
    assert 0 < found["share of tokens changed"] < found["share of tokens within reach"]
    # A reach that is understated is noticed.
    reach(book, here, "DTO published", 0, replace(descent, travel=descent.travel / 4))
    assert [f.check for f in broken(book.findings)] == ["share of tokens changed beyond reach"]


def test_the_products_loop_has_the_law_computed_for_it(here: World):
    generator = torch.Generator().manual_seed(0)
    laws, seen = {}, {}
    for name, config in SETTINGS.items():
        laws[name] = decoding_law(here, config)
        found = counts(here, partial(nabla, config=config, seed=1, max_tokens=T), 500)
        seen[name] = found / found.sum()
        bound = draws_bound(laws[name], 500, generator)
        assert total_variation(seen[name], laws[name]) <= bound
    assert total_variation(seen["many flips"], laws["published"]) > bound


def test_the_products_sampler_has_its_kernels_law(here: World):
    law, _ = follow(
        suffix_resampling(here, 0.5), here.target.reference, here.target.optimum(0.5), 12
    )
    found = counts(here, partial(mh, config=MH(beta=0.5, steps=12), seed=1, max_tokens=T), 500)
    bound = draws_bound(law, 500, torch.Generator().manual_seed(0))
    assert total_variation(found / found.sum(), law) <= bound
    assert total_variation(found / found.sum(), here.target.reference) > bound


def test_every_released_setting_is_one_the_enumeration_covers(here: World):
    names = [name for name, _, _ in released()]
    assert len(set(names)) == len(names) == 6
