"""Gradient-guided reward optimisation for one prompt (Lin and Zhang, arXiv 2606.09635).

    y = a greedy response
    for each segment, from left to right; it begins at an uncertain position i
        repeat `refinements` times: one candidate after the other
            take the gradient of the judge's reward at the last candidate
            put the token at i that it prefers among the LM's top_k, and decode greedily behind it
        keep the candidate with the highest reward, up to the end of its segment

As in the paper: a position is uncertain where the entropy of the next token's distribution reaches
a threshold, and a segment is at least `min_segment` tokens long (4 in the authors' code); decoding
is greedy; the nudging token is the one with the largest first-order gain of reward among the LM's
top_k tokens (25), without the current one; it is put at the first token of the segment alone; the
next gradient is taken at the last candidate, not at the best; a repeated candidate ends the
segment; the segment with the highest reward is kept, the one without a nudge included.

Other than in the paper:
- With `judged: greedy` (the default) rewards and gradients are those of the whole response. The
  paper's reward model reads the response up to the end of the segment: `judged: partial`.
- The first tokens of a response, before the first uncertain position, are left as they are: the
  authors' code nudges the fifth token of the response too, whatever its entropy.
- The gradient is that of `reward.guide`, if one is named; the paper has one reward model. With a
  head its advantages take the place of the gradient.
- The paper forces the token through a bias of the logits by embedding distance; the nearest token
  is the token itself, so here it is put there.
- A candidate that the judge cannot read counts as the worst.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from nabla_core.config import GGRO, NablaConfig, Objective, Ranked
from nabla_core.methods.nabla import ProposalOutcome, SearchRollouts, trace_of
from nabla_core.requests import (
    Flow,
    Judged,
    Nudge,
    Proposal,
    Render,
    RequestGenerator,
    Response,
    Score,
    Spent,
    Sweep,
    ask,
    ask_readable,
)
from nabla_core.types import Prompt

# The gradient of the reward alone. Any guide serves it: `ranked` asks for advantages.
SWEEP = NablaConfig(proposals="ranked", objective=Objective(nll_coeff=0.0))
# The LM reads alone, for its entropies.
LM_SWEEP = replace(SWEEP, ranked=Ranked(beta=None))


@dataclass(frozen=True)
class _Candidate:
    """A response. `positions`: where the LM is uncertain, from the segment in question on. `end`:
    the end of that segment. `gradients` and `judged` are of what the judge reads, None where it
    cannot."""

    response: Response
    positions: tuple[int, ...]
    end: int
    gradients: Any
    judged: Judged | None

    @property
    def reward(self) -> float:
        return float("-inf") if self.judged is None else self.judged.reward


def ggro(prompt: Prompt, config: GGRO, *, seed: int = 0, max_tokens: int = 1024) -> Flow:
    """The response after all segments. The base response is the one without any nudge. Where whole
    responses are judged, the revisions are the candidates: accepted where the reward is the highest
    of the segment so far. By the paper's count of ∇-Reasoner a sampled token is a call, a gradient
    four, and a candidate's reward two if the gradient has not given it. Raises PromptError."""
    context = yield from ask(Render(prompt))
    rollouts = SearchRollouts(
        prompt=prompt, context=context, sampling=config.rollout, max_tokens=max_tokens, seed=seed
    )
    base = yield from ask(rollouts.request(0, ()))
    search = _Search(config=config, rollouts=rollouts)
    first = best = yield from search.read(base, 0)
    start = next(iter(best.positions), None)
    while start is not None:
        best = yield from search.segment(best, start)
        start = next((i for i in best.positions if i >= best.end), None)
    rewards = [candidate.judged for candidate in (first, best)]
    for n, response in enumerate((base, best.response)):
        # The judge has read a part of it, or nothing: this raises what is wrong with it.
        if rewards[n] is None or not search.whole:
            rewards[n] = yield from ask(Score(context, response.tokens))
    before, after = (judged.reward for judged in rewards if judged is not None)
    outcomes = search.outcomes if search.whole else []
    responses = (base, best.response)
    return (yield from trace_of(prompt, context, responses, (before, after), outcomes, seed))


@dataclass(kw_only=True)
class _Search:
    """`whole`: the judge reads whole responses. `tried`: candidates so far."""

    config: GGRO
    rollouts: SearchRollouts
    outcomes: list[ProposalOutcome] = field(default_factory=list)
    tried: int = 0

    @property
    def whole(self) -> bool:
        return self.config.judged == "greedy"

    def segment(self, best: _Candidate, start: int) -> RequestGenerator[_Candidate]:
        """The best candidate of the segment that begins at `start`, the given one included."""
        if self.whole:  # it has been read
            best = replace(best, end=self._end(best.positions, best.response, start))
        else:
            best = yield from self.read(best.response, start)
        current = best
        seen = {best.response.tokens[start]}
        for _ in range(self.config.refinements - 1):
            if current.gradients is None:
                break
            nudges = yield from ask(self._nudge(current.gradients, start))
            if not nudges.tokens or nudges.tokens[0] in seen:
                break
            token, before = nudges.tokens[0], current.response.tokens
            seen.add(token)
            self.tried += 1
            response = yield from ask(
                self.rollouts.request(self.tried, (*before[:start], token), current.response)
            )
            current = yield from self.read(response, start, current)
            self.outcomes.append(
                ProposalOutcome(
                    proposal=Proposal(
                        position=start,
                        from_token=before[start],
                        to_token=token,
                        advantage=nudges.advantages[0],
                    ),
                    tail=response.tokens[start:],
                    reward_before=best.reward,
                    reward_after=None if current.judged is None else current.judged.reward,
                    accepted=current.reward > best.reward,
                    spent=(yield from ask(Spent())),
                )
            )
            if current.reward > best.reward:
                best = current
        return best

    def read(
        self, response: Response, start: int, before: _Candidate | None = None
    ) -> RequestGenerator[_Candidate]:
        """A response with reward and gradients, for the segment that begins at `start`. `before`: a
        candidate with the same tokens before `start`, which are not read again."""
        context = self.rollouts.context
        positions: tuple[int, ...] = ()
        text = response
        if not self.whole:
            alone = yield from ask(Sweep(context, response, start, LM_SWEEP))
            positions = (yield from ask(self._nudge(alone.gradients, None))).positions
            text = replace(
                response, tokens=response.tokens[: self._end(positions, response, start)]
            )
        previous, judged = (before.gradients, before.judged) if before else (None, None)
        (swept,) = yield from ask_readable([Sweep(context, text, start, SWEEP, previous)])
        if swept is None:
            return _Candidate(response, positions, len(text.tokens), None, None)
        if self.whole:
            positions = (yield from ask(self._nudge(swept.gradients, None))).positions
        verdict = swept.judged
        if verdict is None:
            score = Score(
                context,
                text.tokens,
                paper_calls=2,
                reuse=judged and judged.cache,
                return_cache=True,
            )
            (verdict,) = yield from ask_readable([score])
        end = self._end(positions, response, start)
        return _Candidate(response, positions, end, swept.gradients, verdict)

    def _nudge(self, gradients: Any, position: int | None) -> Nudge:
        return Nudge(gradients, self.config.entropy_threshold, position, self.config.top_k)

    def _end(self, positions: tuple[int, ...], response: Response, start: int) -> int:
        """Where the segment ends: before the next uncertain position, or with the response."""
        later = (i for i in positions if i >= start + self.config.min_segment)
        return next(later, len(response.tokens))
