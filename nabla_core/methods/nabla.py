"""∇-Reasoner for one prompt (Wang et al., arXiv 2603.04948, algorithm 1), as a generator.

1. Roll out a response y ~ p(. | x).
2. Sweep it: one forward and backward pass give the gradient rows g_i at every position.
3. Propose: the next revision (position i, token b) that the gradients suggest.
4. Roll out a new tail behind y_<i b, and let the judge score the new response.
5. Accept it if the reward rises, and sweep the new response (2); else propose again (3).

The generator computes nothing itself. It yields requests (`nabla_core.requests`), which engines
answer in batches over many prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nabla_core.config import NablaConfig, Sampling
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
    Spent,
    Sweep,
    Swept,
    ask,
    ask_all,
    ask_readable,
)
from nabla_core.types import Cost, Prompt, Revision, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalOutcome:
    """A proposal, the new tokens from its position on, the rewards before and after it (None: the
    judge could not read the new response), whether it was accepted, and the cost of the search up
    to here."""

    proposal: Proposal
    tail: tuple[int, ...]
    reward_before: float
    reward_after: float | None
    accepted: bool
    spent: Cost


@dataclass
class _SearchState:
    """What is left to try in the current response.

    Left to right, positions before `boundary` are committed. Ranked, none is; `tried` then holds
    the (position, token) pairs that were rolled out from the prefix before that position.
    """

    ranked: bool
    boundary: int = 0
    tried: set[tuple[int, int]] = field(default_factory=set)

    def add(self, proposal: Proposal) -> None:
        """Record a proposal that was rolled out."""
        self._commit(proposal)
        self.tried.add((proposal.position, proposal.to_token))

    def accept(self, proposal: Proposal) -> None:
        """The response is now another one, from the position of the proposal on."""
        self._commit(proposal)
        # Pairs at later positions were tried behind the old prefix, so they may be tried again. The
        # token just replaced may not: putting it back would restore the response just replaced.
        self.tried = {(i, b) for i, b in self.tried if i <= proposal.position}
        self.tried.add((proposal.position, proposal.from_token))

    def _commit(self, proposal: Proposal) -> None:
        self.boundary = 0 if self.ranked else proposal.position + 1


@dataclass(frozen=True, kw_only=True)
class SearchRollouts:
    """The rollouts of one search. Each is numbered, and its draws are keyed by its number."""

    prompt: Prompt
    context: Context
    sampling: Sampling
    max_tokens: int
    seed: int

    def key(self, purpose: str) -> DrawKey:
        return DrawKey(self.seed, self.prompt.id, self.prompt.sample, purpose)

    def request(
        self, number: int, prefix: tuple[int, ...], base: Response | None = None
    ) -> Rollout:
        """The rollout that continues `prefix`. It differs from a prefix of `base` in its last token
        at most, so the cache of `base` is reused."""
        return Rollout(
            self.context,
            prefix,
            self.max_tokens,
            self.sampling,
            self.key(f"rollout {number}"),
            reuse=base.cache if base else None,
            return_cache=True,
        )


def nabla(prompt: Prompt, config: NablaConfig, *, seed: int = 0, max_tokens: int = 1024) -> Flow:
    """Refine one prompt's response. Returns its trace; the scheduler fills in the cost.

    Random draws are keyed by (seed, prompt id, sample). A trace therefore does not depend on
    which other prompts run, on which machine, or in which order. Raises PromptError.
    """
    context = yield from ask(Render(prompt))
    rollouts = SearchRollouts(
        prompt=prompt, context=context, sampling=config.rollout, max_tokens=max_tokens, seed=seed
    )
    base = response = yield from ask(rollouts.request(0, ()))
    sweep = yield from ask(Sweep(context, response, 0, config))
    # Where guide and judge are one model, the sweep's forward pass already gave the reward.
    base_judged = judged = sweep.judged or (
        yield from ask(Score(context, response.tokens, return_cache=True))
    )
    state = _SearchState(ranked=config.proposals == "ranked")
    likelihood = _joined((), 0, sweep)
    outcomes: list[ProposalOutcome] = []

    while len(outcomes) < config.max_rollouts:
        count = min(config.speculate, config.max_rollouts - len(outcomes))
        tried = frozenset(state.tried)
        proposals = yield from ask(
            Propose(sweep.gradients, state.boundary, count, rollouts.key("resample"), tried)
        )
        if not proposals:  # every revision that the gradients suggest was tried
            break
        # Speculation: each candidate assumes that those before it are rejected. Rollouts are
        # numbered as they would be one at a time, so their draws are the same.
        candidates = yield from ask_all(
            [
                rollouts.request(
                    len(outcomes) + k, (*response.tokens[: p.position], p.to_token), response
                )
                for k, p in enumerate(proposals, 1)
            ]
        )
        verdicts = yield from ask_readable(
            [
                Score(context, c.tokens, paper_calls=2, reuse=judged.cache, return_cache=True)
                for c in candidates
            ]
        )
        spent = yield from ask(Spent())
        winner = _winner(config, judged, proposals, verdicts)
        # With `take: first` candidates behind the winner were built on a wrong assumption: they
        # are dropped, as if they had never been rolled out (their cost still counts).
        last = winner if winner is not None and config.take == "first" else len(proposals) - 1
        for k in range(last + 1):
            state.add(proposals[k])
            verdict = verdicts[k]
            outcomes.append(
                ProposalOutcome(
                    proposal=proposals[k],
                    tail=candidates[k].tokens[proposals[k].position :],
                    reward_before=judged.reward,
                    reward_after=verdict.reward if verdict else None,
                    accepted=k == winner,
                    spent=spent,
                )
            )
        if winner is not None and (best := verdicts[winner]):
            state.accept(proposals[winner])
            response, judged = candidates[winner], best
            before, likelihood = likelihood, None
            # The last sweep would serve no proposal.
            if len(outcomes) < config.max_rollouts:
                sweep = yield from ask(
                    Sweep(context, response, state.boundary, config, sweep.gradients)
                )
                kept = (before or ())[: proposals[winner].position]
                likelihood = _joined(kept, state.boundary, sweep)

    rewards = (base_judged.reward, judged.reward)
    trace = yield from trace_of(prompt, context, (base, response), rewards, outcomes, seed)
    return replace(trace, log_probabilities=likelihood)


def _joined(
    known: tuple[float | None, ...], boundary: int, sweep: Swept
) -> tuple[float | None, ...] | None:
    """The log-probabilities of a response: those `known` of its first tokens, then those of a
    sweep from `boundary` on. A token between the two has None."""
    if sweep.log_probabilities is None:
        return None
    before = known[:boundary]
    return (*before, *[None] * (boundary - len(before)), *sweep.log_probabilities)


def _winner(
    config: NablaConfig,
    judged: Judged,
    proposals: Sequence[Proposal],
    verdicts: Sequence[Judged | None],
) -> int | None:
    """Index of the candidate that replaces the response: of the acceptable ones the first, or
    with `take: best` the one with the highest reward."""
    # A verdict is None where the judge cannot read the candidate: it is rejected.
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
    """Whether the reward rises, and by enough for the proposal's score: `Ranked.reward_weight`."""
    weight = config.ranked.reward_weight if config.proposals == "ranked" else 0.0
    return gain > 0 and (weight == 0 or proposal.score + weight * gain > 0)


def trace_of(
    prompt: Prompt,
    context: Context,
    responses: tuple[Response, Response],
    rewards: tuple[float, float],
    outcomes: Sequence[ProposalOutcome],
    seed: int,
) -> Flow:
    """The trace of a search. `responses` and `rewards`: of the base response and of the last."""
    base, response = responses
    text, base_text = yield from ask(Decode((response.tokens, base.tokens)))
    changes = [(o.proposal.from_token, o.proposal.to_token) for o in outcomes]
    tokens = tuple((token,) for change in changes for token in change)
    # Special tokens are kept: a revision may be to or from the stop token.
    texts = (yield from ask(Decode(tokens, special=True))) if tokens else []
    return Trace(
        prompt_id=prompt.id,
        sample=prompt.sample,
        prompt_text=context.text,
        text=text,
        tokens=response.tokens,
        finish_reason=response.finish,
        base_text=base_text,
        base_tokens=base.tokens,
        base_reward=rewards[0],
        reward=rewards[1],
        revisions=tuple(
            _revision(outcome, from_text, to_text)
            for outcome, from_text, to_text in zip(outcomes, texts[::2], texts[1::2], strict=True)
        ),
        seed=seed,
    )


def _revision(outcome: ProposalOutcome, from_text: str, to_text: str) -> Revision:
    proposal = outcome.proposal
    return Revision(
        position=proposal.position,
        from_token=proposal.from_token,
        to_token=proposal.to_token,
        from_text=from_text,
        to_text=to_text,
        confidence=proposal.confidence,
        grad_norm=proposal.grad_norm,
        advantage=proposal.advantage,
        reward_before=outcome.reward_before,
        reward_after=outcome.reward_after,
        accepted=outcome.accepted,
        tail_token_ids=outcome.tail,
        spent=outcome.spent,
    )
