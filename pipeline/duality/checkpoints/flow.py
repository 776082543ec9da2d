"""One prompt of part checkpoints: a response of either model, its log-probability under both,
and its reward."""

from __future__ import annotations

from dataclasses import dataclass

from nabla_core.config import Sampling
from nabla_core.draws import DrawKey
from nabla_core.requests import Context, Decode, Flow, Render, Request, Rollout, Score, ask
from nabla_core.types import Prompt, Trace

# The law of the model itself: no temperature, no truncation.
UNFILTERED = Sampling(temperature=1.0)


@dataclass(frozen=True, slots=True)
class PolicyRollout(Rollout):
    """A rollout by the policy. A plain `Rollout` is one by the reference."""


@dataclass(frozen=True, slots=True)
class ReferenceLikelihood(Request[float]):
    """log p(tokens | prompt) under the reference."""

    context: Context
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PolicyLikelihood(ReferenceLikelihood):
    """log p(tokens | prompt) under the policy."""


@dataclass(frozen=True, slots=True)
class MeasuredResponse(Trace):
    """A response with its log-probability under both models."""

    log_ref: float = 0.0
    log_policy: float = 0.0


def measure_response(prompt: Prompt, *, of_policy: bool, seed: int, max_tokens: int) -> Flow:
    """Draw a response at temperature 1 from one of the models; compute its log-probability under
    both models and its reward."""
    context = yield from ask(Render(prompt))
    # Samples of the two models have different numbers, so their draws are independent.
    key = DrawKey(seed, prompt.id, prompt.sample, "rollout 0")
    kind = PolicyRollout if of_policy else Rollout
    response = yield from ask(kind(context, (), max_tokens, UNFILTERED, key))
    # Scored as tokens: a text that is decoded and encoded again can be other tokens.
    judged = yield from ask(Score(context, response.tokens))
    log_ref = yield from ask(ReferenceLikelihood(context, response.tokens))
    log_policy = yield from ask(PolicyLikelihood(context, response.tokens))
    (text,) = yield from ask(Decode((response.tokens,)))
    return MeasuredResponse(
        prompt_id=prompt.id,
        sample=prompt.sample,
        prompt_text=context.text,
        text=text,
        tokens=response.tokens,
        finish_reason=response.finish,
        base_text=text,
        base_tokens=response.tokens,
        base_reward=judged.reward,
        reward=judged.reward,
        revisions=(),
        seed=seed,
        log_ref=log_ref,
        log_policy=log_policy,
    )
