"""The comparison of method mh with importance sampling."""

import pytest
import torch

from nabla_core.embedded import task
from nabla_core.types import Revision, Trace
from pipeline.duality.language import mh_agreement
from pipeline.duality.language.embedded_models import EmbeddedModels
from pipeline.duality.language.estimators import estimate_optimum
from pipeline.duality.language.mh_agreement import standard_errors


@pytest.fixture(scope="module")
def models() -> EmbeddedModels:
    return EmbeddedModels(task.prompts(3, seed=1, split="validation"))


def test_a_sampler_of_another_law_is_caught(models: EmbeddedModels):
    generator = torch.Generator().manual_seed(0)
    rewards = models.sample(models.lm, 1500, generator).reward
    truth = estimate_optimum(rewards, 4.0)
    weights = torch.softmax(rewards / 4.0, 1)
    right = rewards.gather(1, weights.multinomial(300, replacement=True, generator=generator))
    assert standard_errors(right, truth) < 4
    assert standard_errors(rewards[:, :300], truth) > 4


def step(before: float, after: float, accepted: bool) -> Revision:
    return Revision(
        position=0, from_token=0, to_token=0, from_text="", to_text="", confidence=None,
        grad_norm=0.0, advantage=0.0, reward_before=before, reward_after=after, accepted=accepted,
        tail_token_ids=(),
    )  # fmt: skip


def chain(rewards: list[float], accepted: list[bool]) -> Trace:
    """A trace with these rewards: of its first response, then of each proposal."""
    steps, now = [], rewards[0]
    for reward, take in zip(rewards[1:], accepted, strict=True):
        steps.append(step(now, reward, take))
        now = reward if take else now
    return Trace(
        prompt_id="p", sample=0, prompt_text="", text="", tokens=(1,), finish_reason="stop",
        base_text="", base_tokens=(1,), base_reward=rewards[0], reward=now,
        revisions=tuple(steps), seed=0,
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
