"""Exact draws from the KL-regularised optimum pi*_beta ~ p_ref exp(r / beta), without training.

A Markov chain over whole responses: cut the response at a uniform position, draw a new tail
from the reference, accept with the Metropolis probability

    min(1, exp((r' - r) / beta) * L / L')

Drawing a tail from p_ref is reversible with respect to p_ref, so p_ref cancels in the ratio. The
lengths L before and L' after remain: a cut at position t has probability 1 / L on the way there
and 1 / L' on the way back.

Metropolis steps on suffixes are those of QUEST and QAlign (arXiv 2504.03790). With a guide in the
rollout (`MH.rollout.beta`) tails come from the guided law, which then is p_ref: it cancels as well.
"""

from __future__ import annotations

import math

from nabla_core.config import MH
from nabla_core.draws import uniform
from nabla_core.methods.nabla import ProposalOutcome, SearchRollouts, trace_of
from nabla_core.requests import Flow, Judged, Proposal, Render, Score, Spent, ask
from nabla_core.types import Prompt


def mh(prompt: Prompt, config: MH, *, seed: int = 0, max_tokens: int = 1024) -> Flow:
    """The response after `config.steps` proposals, started from a draw of the reference.

    The total variation distance between the distribution of the response and pi*_beta never grows
    with the number of steps. The trace's revisions are all proposals; `accepted` marks those taken.
    Random draws are keyed as in `nabla`.
    """
    context = yield from ask(Render(prompt))
    rollouts = SearchRollouts(
        prompt=prompt, context=context, sampling=config.rollout, max_tokens=max_tokens, seed=seed
    )
    base = response = yield from ask(rollouts.request(0, ()))
    base_judged = judged = yield from ask(Score(context, response.tokens, return_cache=True))
    outcomes: list[ProposalOutcome] = []
    for step in range(1, config.steps + 1):
        tokens = response.tokens
        # Uniform over the positions; a cut at 0 draws a whole new response.
        cut = int(uniform(rollouts.key("cut"), step) * len(tokens))
        candidate = yield from ask(rollouts.request(step, tokens[:cut], response))
        verdict = judged
        # An unchanged response has the reward that is known already.
        if candidate.tokens != tokens:
            verdict = yield from ask(
                Score(
                    context,
                    candidate.tokens,
                    paper_calls=2,
                    reuse=judged.cache,
                    return_cache=True,
                )
            )
        chance = acceptance(judged, verdict, len(tokens), len(candidate.tokens), config.beta)
        # Another stream than the cut: the counter alone would repeat its uniforms.
        accepted = uniform(rollouts.key("accept"), step) < chance
        outcomes.append(
            ProposalOutcome(
                proposal=Proposal(
                    position=cut, from_token=tokens[cut], to_token=candidate.tokens[cut]
                ),
                tail=candidate.tokens[cut:],
                reward_before=judged.reward,
                reward_after=verdict.reward,
                accepted=accepted,
                spent=(yield from ask(Spent())),
            )
        )
        if accepted:
            response, judged = candidate, verdict
    rewards = (base_judged.reward, judged.reward)
    return (yield from trace_of(prompt, context, (base, response), rewards, outcomes, seed))


def acceptance(before: Judged, after: Judged, length: int, new_length: int, beta: float) -> float:
    """The Metropolis probability, see the module. Lengths in tokens, the cut's choices."""
    exponent = (after.reward - before.reward) / beta + math.log(length / new_length)
    return math.exp(min(0.0, exponent))
