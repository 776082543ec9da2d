"""Variants of the search that were tried and are not in the product. They have the signature of
the product's generators, so that `tests.bench.gain` can measure both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Any

from nabla_core import NablaConfig, Prompt
from nabla_core.draws import DrawKey
from nabla_core.engines.base import Engines
from nabla_core.methods.nabla import trace_of
from nabla_core.proposals.positions import hidden_at, rows_at
from nabla_core.requests import (
    Flow,
    Proposal,
    Propose,
    Render,
    Rollout,
    Score,
    Sweep,
    Swept,
    ask,
)

Candidate = tuple[Proposal, ...]
# (sweep, its untried proposals, the last accepted candidate with its sweep) -> candidates, best
# first.
Order = Callable[[Swept, list[Proposal], tuple[Candidate, Swept] | None], list[Candidate]]

MOST = 16


def two_at_once(engines: Engines, config: NablaConfig) -> Order:
    """Candidates of one position or two, by the sum of their scores. Only proposals with a score
    above 0 are paired. The tokens between the two positions are kept."""

    def order(
        sweep: Swept, found: list[Proposal], last: tuple[Candidate, Swept] | None
    ) -> list[Candidate]:
        ahead = sorted((p for p in found if p.score > 0), key=lambda p: p.position)
        pairs = [(p, q) for p, q in combinations(ahead, 2) if p.position < q.position]
        singles: list[Candidate] = [(p,) for p in found]
        return sorted([*pairs, *singles], key=lambda c: -sum(p.score for p in c))

    return order


def second_order(engines: Engines, config: NablaConfig) -> Order:
    """Advantages corrected to second order by the sweeps before and after the last acceptance.

    Along the accepted flip y -> y', the trapezoid (A(y) + A(y')) / 2 of the advantages is exact to
    second order. Its ratio to the first-order advantage A(y), clipped to [1/4, 2], scales every
    advantage of the new sweep.
    """
    guide: Any = engines.serving(Propose)._guide  # type: ignore[attr-defined]
    assert config.ranked.beta is not None
    beta = config.ranked.beta

    def advantage(sweep: Swept, flip: Proposal) -> float:
        gradients = sweep.gradients
        logits = guide.lm.logits(hidden_at(gradients, [flip.position]))
        state = gradients.guide_states[gradients.response.tokens]
        (row,) = rows_at(guide, [(gradients, state, flip.position)], logits)
        return float(row[flip.from_token] - row[flip.to_token])

    def order(
        sweep: Swept, found: list[Proposal], last: tuple[Candidate, Swept] | None
    ) -> list[Candidate]:
        ratio = 1.0
        if last is not None:
            (flip,), before = last
            first = advantage(before, flip)
            if abs(first) > 1e-6:
                ratio = min(2.0, max(0.25, (first + advantage(sweep, flip)) / (2 * first)))
        scored = [(p.score + (ratio - 1) * p.advantage / beta, p) for p in found]
        kept = [(s, p) for s, p in scored if s > config.ranked.min_score]
        return [(p,) for _, p in sorted(kept, key=lambda pair: -pair[0])]

    return order


def search(
    prompt: Prompt, config: NablaConfig, order: Order, *, seed: int = 0, max_tokens: int = 20
) -> Flow:
    """The loop of `nabla` over candidates of one or more positions, ranked by `order`. Their scores
    enter the acceptance test in the same way (`config.Ranked.reward_weight`, above 0)."""
    context = yield from ask(Render(prompt))

    def rolled(prefix: tuple[int, ...], number: int, like: Any) -> Rollout:
        key = DrawKey(seed, prompt.id, prompt.sample, f"rollout {number}")
        cache = like.cache if like else None
        return Rollout(
            context, prefix, max_tokens, config.rollout, key, reuse=cache, return_cache=True
        )

    base = response = yield from ask(rolled((), 0, None))
    sweep = yield from ask(Sweep(context, response, 0, config))
    base_judged = judged = yield from ask(Score(context, response.tokens, return_cache=True))
    tried: set[tuple[int, ...]] = set()
    last: tuple[Candidate, Swept] | None = None
    made = 0
    while made < config.max_rollouts:
        key = DrawKey(seed, prompt.id, prompt.sample, "resample")
        found = yield from ask(Propose(sweep.gradients, 0, MOST, key))
        fresh = (c for c in order(sweep, found, last) if _prefix(response.tokens, c) not in tried)
        candidate = next(fresh, None)
        if candidate is None:
            break
        made += 1
        prefix = _prefix(response.tokens, candidate)
        tried.add(prefix)
        changed = yield from ask(rolled(prefix, made, response))
        verdict = yield from ask(
            Score(context, changed.tokens, paper_calls=2, reuse=judged.cache, return_cache=True)
        )
        gain = verdict.reward - judged.reward
        score = sum(p.score for p in candidate)
        if gain > 0 and score + config.ranked.reward_weight * gain > 0:
            end = candidate[-1].position + 1
            tried.add(response.tokens[:end])
            response, judged, before = changed, verdict, sweep
            sweep = yield from ask(Sweep(context, response, 0, config, before.gradients))
            last = (candidate, before)
    rewards = (base_judged.reward, judged.reward)
    return (yield from trace_of(prompt, context, (base, response), rewards, [], seed))


def _prefix(tokens: tuple[int, ...], candidate: Iterable[Proposal]) -> tuple[int, ...]:
    """The response up to the last changed position, with the changes."""
    changed = list(tokens)
    end = 0
    for p in candidate:
        changed[p.position] = p.to_token
        end = p.position + 1
    return tuple(changed[:end])
