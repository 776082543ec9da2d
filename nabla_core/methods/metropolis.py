"""Exact draws from the KL-regularised optimum pi*_beta ~ p_ref exp(r / beta), no training.

A Markov chain over whole responses: cut the response at a uniform position, draw a new tail
from the reference, accept with the Metropolis probability. Drawing tails from p_ref is itself
reversible with respect to p_ref, so only the rewards remain in the acceptance, and the ratio
of lengths where they differ: a cut at t has probability 1 / L here and 1 / L' on the way back.

    min(1, exp((r' - r) / beta) * L / L')
"""

from __future__ import annotations

import math

from nabla_core.config import MH
from nabla_core.draws import DrawKey, uniform
from nabla_core.methods.nabla import trace_of
from nabla_core.requests import Flow, Judged, Proposal, Render, Response, Rollout, Score, ask
from nabla_core.types import Prompt


def mh(prompt: Prompt, config: MH, *, seed: int = 0, max_tokens: int = 1024) -> Flow:
    """The response after `config.steps` proposals, started from a draw of the reference.

    The law of the response nears pi*_beta with every step and never moves away from it; the
    trace's revisions are all proposals, `accepted` says which were. Draws are keyed as those
    of `nabla` are.
    """

    def key(purpose: str) -> DrawKey:
        return DrawKey(seed, prompt.id, prompt.sample, purpose)

    def rollout(number: int, prefix: tuple[int, ...], like: Response | None) -> Rollout:
        cache = like.cache if like else None
        draws = key(f"rollout {number}")
        return Rollout(context, prefix, max_tokens, config.rollout, draws, cache, return_cache=True)

    context = yield from ask(Render(prompt))
    base = response = yield from ask(rollout(0, (), None))
    first = judged = yield from ask(Score(context, response.tokens, return_cache=True))
    proposals: list[tuple[Proposal, float, float, bool]] = []
    for step in range(1, config.steps + 1):
        tokens = response.tokens
        cut = int(uniform(key("cut"), step) * len(tokens))
        candidate = yield from ask(rollout(step, tokens[:cut], response))
        verdict = judged
        if candidate.tokens != tokens:
            verdict = yield from ask(
                Score(context, candidate.tokens, 2, judged.cache, return_cache=True)
            )
        chance = acceptance(judged, verdict, len(tokens), len(candidate.tokens), config.beta)
        accepted = uniform(key("accept"), step) < chance
        proposal = Proposal(cut, tokens[cut], candidate.tokens[cut], None, 0.0, 0.0)
        proposals.append((proposal, judged.reward, verdict.reward, accepted))
        if accepted:
            response, judged = candidate, verdict
    rewards = (first.reward, judged.reward)
    return (yield from trace_of(prompt, context, (base, response), rewards, proposals, seed))


def acceptance(before: Judged, after: Judged, length: int, new_length: int, beta: float) -> float:
    """The Metropolis probability of the module's first lines."""
    exponent = (after.reward - before.reward) / beta + math.log(length / new_length)
    return math.exp(min(0.0, exponent))
