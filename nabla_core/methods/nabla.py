"""nabla-Reasoner for one prompt (paper, algorithm 1), as a generator.

Roll out a response; sweep it once for the gradients at every position; take the next
revision the gradients propose; roll out a new tail behind it; keep the new response if the
judge likes it strictly better; sweep again only then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nabla_core.config import NablaConfig
from nabla_core.draws import DrawKey
from nabla_core.requests import (
    Context,
    Decode,
    Flow,
    Judged,
    Proposal,
    Propose,
    Render,
    Response,
    Rollout,
    Score,
    Sweep,
    ask,
    ask_all,
    ask_readable,
)
from nabla_core.types import Prompt, Revision, Trace

# A proposal, the rewards before and after it (None: it could not be read), whether accepted.
Outcome = tuple[Proposal, float, float | None, bool]


@dataclass
class _Tried:
    """Where the search stands in the current response.

    Left to right, everything before `boundary` is committed. Ranked, nothing is, and `pairs`
    are the (position, token) pairs already rolled out from the prefix that precedes them now.
    """

    ranked: bool
    boundary: int = 0
    pairs: set[tuple[int, int]] = field(default_factory=set)

    def add(self, proposal: Proposal) -> None:
        self._pass(proposal)
        self.pairs.add((proposal.position, proposal.to_token))

    def accept(self, proposal: Proposal) -> None:
        """The prefix changed behind `proposal`: what was tried there is open again. The way
        back to the response just left is not."""
        self._pass(proposal)
        self.pairs = {(i, b) for i, b in self.pairs if i <= proposal.position}
        self.pairs.add((proposal.position, proposal.from_token))

    def _pass(self, proposal: Proposal) -> None:
        self.boundary = 0 if self.ranked else proposal.position + 1


def nabla(prompt: Prompt, config: NablaConfig, *, seed: int = 0, max_tokens: int = 1024) -> Flow:
    """Refine one prompt's response. Returns its trace (costs are booked by the scheduler).

    Draws are keyed by (seed, prompt id, sample), so a trace does not depend on what else
    runs, where, or in which order.
    """

    def key(purpose: str) -> DrawKey:
        return DrawKey(seed, prompt.id, prompt.sample, purpose)

    def rollout(prefix: tuple[int, ...], number: int, like: Response | None) -> Rollout:
        cache = like.cache if like else None
        draws = key(f"rollout {number}")
        return Rollout(context, prefix, max_tokens, config.rollout, draws, cache, return_cache=True)

    context = yield from ask(Render(prompt))
    base = response = yield from ask(rollout((), 0, None))
    sweep = yield from ask(Sweep(context, response, 0, config))
    first = judged = sweep.judged or (
        yield from ask(Score(context, response.tokens, return_cache=True))
    )
    tried = _Tried(ranked=config.proposals == "ranked")
    revisions: list[Outcome] = []

    while len(revisions) < config.max_rollouts:
        count = min(config.speculate, config.max_rollouts - len(revisions))
        pairs = frozenset(tried.pairs)
        proposals = yield from ask(
            Propose(sweep.gradients, tried.boundary, count, key("resample"), pairs)
        )
        if not proposals:
            break
        candidates = yield from ask_all(
            [
                rollout((*response.tokens[: p.position], p.to_token), len(revisions) + k, response)
                for k, p in enumerate(proposals, 1)
            ]
        )
        verdicts = yield from ask_readable(
            [Score(context, c.tokens, 2, judged.cache, return_cache=True) for c in candidates]
        )
        winner = _winner(config, judged, proposals, verdicts)
        last = winner if winner is not None and config.take == "first" else len(proposals) - 1
        for k in range(last + 1):
            tried.add(proposals[k])
            verdict = verdicts[k]
            after = verdict.reward if verdict else None
            revisions.append((proposals[k], judged.reward, after, k == winner))
        if winner is not None and (best := verdicts[winner]):
            tried.accept(proposals[winner])
            response, judged = candidates[winner], best
            if len(revisions) < config.max_rollouts:
                sweep = yield from ask(
                    Sweep(context, response, tried.boundary, config, sweep.gradients)
                )

    rewards = (first.reward, judged.reward)
    return (yield from trace_of(prompt, context, (base, response), rewards, revisions, seed))


def _winner(
    config: NablaConfig,
    judged: Judged,
    proposals: Sequence[Proposal],
    verdicts: Sequence[Judged | None],
) -> int | None:
    """Which of the candidates replaces the response: the first acceptable one, or the best of
    those."""
    acceptable = {
        k: verdict.reward
        for k, (proposal, verdict) in enumerate(zip(proposals, verdicts, strict=True))
        if verdict and _acceptable(config, proposal, verdict.reward - judged.reward)
    }
    if not acceptable:
        return None
    return (
        min(acceptable) if config.take == "first" else max(acceptable, key=acceptable.__getitem__)
    )


def _acceptable(config: NablaConfig, proposal: Proposal, gain: float) -> bool:
    """The judge's reward rises; by enough for the score, see `Ranked.reward_weight`."""
    weight = config.ranked.reward_weight if config.proposals == "ranked" else 0.0
    return gain > 0 and (weight == 0 or proposal.score + weight * gain > 0)


def trace_of(
    prompt: Prompt,
    context: Context,
    responses: tuple[Response, Response],
    rewards: tuple[float, float],
    revisions: Sequence[Outcome],
    seed: int,
) -> Flow:
    """The trace of a search: base and final response, their rewards, and every proposal with
    the rewards before and after it and whether it was accepted."""
    base, response = responses
    text, base_text = yield from ask(Decode((response.tokens, base.tokens)))
    tokens = tuple((t,) for p, *_ in revisions for t in (p.from_token, p.to_token))
    pieces = iter((yield from ask(Decode(tokens, special=True))) if tokens else ())
    return Trace(
        prompt_id=prompt.id,
        sample=prompt.sample,
        prompt_text=context.text,
        text=text,
        tokens=response.tokens,
        finish_reason=response.finish,
        base_text=base_text,
        base_reward=rewards[0],
        reward=rewards[1],
        revisions=tuple(
            Revision(
                p.position,
                p.from_token,
                p.to_token,
                next(pieces),
                next(pieces),
                p.confidence,
                p.grad_norm,
                p.advantage,
                before,
                after,
                accepted,
            )
            for p, before, after, accepted in revisions
        ),
        seed=seed,
    )
