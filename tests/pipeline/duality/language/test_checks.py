"""Part embedded at reduced size."""

import pytest
import torch

from nabla_core.embedded import task
from nabla_core.types import Revision, Trace
from pipeline.config import load
from pipeline.duality.findings import failed_self_checks
from pipeline.duality.language import checks as language
from pipeline.duality.language import mh_agreement
from pipeline.duality.language.config import LanguageConfig, RlooConfig
from pipeline.duality.language.embedded_models import EmbeddedModels, log_probability
from pipeline.duality.language.estimators import estimate_optimum
from pipeline.duality.language.mh_agreement import standard_errors
from pipeline.generate.config import GenerateConfig

SMALL = LanguageConfig(
    betas=(4.0, 1.0),
    prompts=3,
    reference_samples=1000,
    samples=6,
    mh_chains=64,
    mh_steps=30,
    rloo=RlooConfig(steps=2, prompts_per_step=8, group_size=4),
)


@pytest.fixture(scope="module")
def models() -> EmbeddedModels:
    return EmbeddedModels(task.prompts(3, seed=1, split="validation"))


def test_the_sampler_agrees_with_importance_sampling_and_its_controls_do_not():
    trained = [language.train(SMALL.rloo, beta, 0) for beta in SMALL.betas]
    results = language.run(SMALL, 0, trained)
    assert [(f.check, f.arm, f.value) for f in failed_self_checks(results.findings)] == []
    assert [f.arm for f in results.findings if f.kind == "positive"] == ["method mh, beta 4"] * 2
    assert len([f for f in results.findings if f.kind == "control"]) == 2
    here = {(f.arm, f.check): f.value for f in results.findings}
    arms = {f.arm for f in results.findings if f.check == "accuracy"}
    assert len(arms) == 1 + 2 + 3 + 4 + 2
    for arm in arms:
        assert 0 <= here[arm, "accuracy"] <= 1
        assert here[arm, "every step correct"] <= here[arm, "accuracy"]
    assert here["reference LM", "KL to the reference"] == 0
    # Two logits of a trained LM are seldom within reach of twenty small steps.
    assert 0 <= here["DTO published", "share of tokens within reach"] < 0.02
    for n in (4, 16, 64):
        low, high = (
            here[f"best of {n}", f"KL to the reference, {end}"] for end in ("at least", "at most")
        )
        assert low <= high
    greedy = "nabla, ranked, greedy rollouts"
    # A deterministic decoder's KL is its surprise.
    assert here[greedy, "KL to the reference, at most"] == pytest.approx(
        -here[greedy, "E[log p_ref]"]
    )


def test_a_sampler_of_another_law_is_caught(models: EmbeddedModels):
    generator = torch.Generator().manual_seed(0)
    rewards = models.sample(models.lm, 1500, generator).reward
    truth = estimate_optimum(rewards, 4.0)
    weights = torch.softmax(rewards / 4.0, 1)
    right = rewards.gather(1, weights.multinomial(300, replacement=True, generator=generator))
    assert standard_errors(right, truth) < 4
    assert standard_errors(rewards[:, :300], truth) > 4


def test_log_probabilities_are_those_of_the_lm_and_add_up(models: EmbeddedModels):
    """Against token by token, pads after the stop left out."""
    generator = torch.Generator().manual_seed(0)
    drawn = models.sample(models.lm, 4, generator)
    prompt, response = models.ids[:1], drawn.responses[0, :1]
    total = 0.0
    for t, token in enumerate(response[0].tolist()):
        fed = torch.cat([prompt, response[:, :t]], 1)
        total += float(models.lm(fed).logits[0, -1].log_softmax(-1)[token])
        if token == 1:
            break
    assert float(log_probability(models.lm, prompt, response)) == pytest.approx(total, abs=1e-4)
    assert float(drawn.log_ref[0, 0]) == pytest.approx(total, abs=1e-4)


def test_training_raises_what_it_ascends():
    """On other prompts than those it is trained on."""
    many = EmbeddedModels(task.prompts(40, seed=0, split="test"))
    settings = LanguageConfig(
        rloo=RlooConfig(steps=8, prompts_per_step=80, group_size=4, learning_rate=5e-4)
    )
    policy = many.policy(language.train(settings.rloo, 1.0, 0))
    before = many.sample(many.lm, 20, torch.Generator().manual_seed(1))
    after = many.sample(policy, 20, torch.Generator().manual_seed(1))
    assert after.log_q is not None
    gained = after.reward - 1.0 * (after.log_q - after.log_ref)
    assert float(gained.mean()) > float(before.reward.mean()) + 0.1
    assert float((after.log_q - after.log_ref).mean()) > 0


def chain(rewards: list[float], accepted: list[bool]) -> Trace:
    """A trace of which only its rewards matter: its first, then one a proposal."""
    steps, now = [], rewards[0]
    for reward, take in zip(rewards[1:], accepted, strict=True):
        steps.append(step(now, reward, take))
        now = reward if take else now
    return Trace(
        prompt_id="p", sample=0, prompt_text="", text="", tokens=(1,), finish_reason="stop",
        base_text="", base_reward=rewards[0], reward=now, revisions=tuple(steps), seed=0,
    )  # fmt: skip


def step(before: float, after: float, accepted: bool) -> Revision:
    return Revision(
        position=0, from_token=0, to_token=0, from_text="", to_text="", confidence=None,
        grad_norm=0.0, advantage=0.0, reward_before=before, reward_after=after, accepted=accepted,
    )  # fmt: skip


def test_chains_that_still_climb_have_not_settled():
    climbing = [
        [chain([0.0, 1.0, 2.0, 3.0 + s / 10], [True, True, True]) for s in range(9)]
        for _ in range(3)
    ]
    assert mh_agreement.second_half_change(climbing[0][0]) == 1.0
    assert mh_agreement.second_half_change(chain([0.0, 1.0, 5.0, 7.0], [True, False, False])) == 0.0
    assert mh_agreement.drift(climbing) > mh_agreement.MAX_DRIFT
    resting = [
        [chain([0.0, 1.0, 1.0 + (-1) ** s, 9.0], [True, True, False]) for s in range(10)]
        for _ in range(3)
    ]
    assert mh_agreement.drift(resting) < mh_agreement.MAX_DRIFT


def test_the_search_is_that_of_the_config_file():
    asked = load(GenerateConfig, ["configs/embedded.yaml"]).decoding.nabla
    assert language.searches()["nabla, ranked, greedy rollouts"] == asked


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"language\.betas must be positive"):
        LanguageConfig(betas=(1.0, 0.0))
    with pytest.raises(ValueError, match="group_size must be at least 2"):
        RlooConfig(group_size=1)
