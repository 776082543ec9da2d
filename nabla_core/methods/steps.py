"""Responses step by step: what beam search and tree search share.

A step ends with the token that holds a separator, or after a number of tokens (`config.Steps`). The
judge takes whole responses, so a partial response is completed greedily before it is judged. A step
that goes where the completion of the response before it went needs no completion of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from nabla_core.config import Sampling, Steps
from nabla_core.draws import DrawKey
from nabla_core.requests import (
    Context,
    Judged,
    Render,
    RequestGenerator,
    Response,
    Rollout,
    Score,
    ask,
    ask_all,
    ask_readable,
)
from nabla_core.types import Prompt

# The value of what the judge cannot read.
UNREAD = float("-inf")


@dataclass(eq=False, kw_only=True)
class Partial:
    """A response up to the end of a step; `ended`: no step follows. `parent` is the response before
    that step, until the judge has read it. `whole` is what the judge read of it (the completed
    response, or itself), `judged` the verdict; both None before, and `judged` where the judge
    cannot read it."""

    response: Response
    parent: Partial | None = None
    ended: bool = False
    whole: Response | None = None
    judged: Judged | None = None

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.response.tokens

    @property
    def value(self) -> float:
        """The reward."""
        return UNREAD if self.judged is None else self.judged.reward


@dataclass(eq=False, kw_only=True)
class StepSearch:
    """The rollouts and rewards of one search. `best` is the whole response with the highest reward
    so far (the first of equals), `first` the first whole one that was judged."""

    prompt: Prompt
    context: Context
    steps: Steps
    judged: Literal["greedy", "partial"]
    sampling: Sampling
    max_tokens: int
    seed: int
    best: Partial | None = None
    first: Partial | None = None
    _verdicts: dict[tuple[int, ...], Judged | None] = field(default_factory=dict)

    def root(self) -> Partial:
        """The empty response."""
        return Partial(response=Response((), "length"))

    def extend(self, draws: Sequence[tuple[Partial, str]]) -> RequestGenerator[list[Partial]]:
        """Draw one step behind each response; its random numbers are named."""
        requests = [
            Rollout(
                self.context,
                parent.tokens,
                min(self.max_tokens, len(parent.tokens) + self.steps.tokens),
                self.sampling,
                self._key(name),
                reuse=parent.response.cache,
                return_cache=True,
                until=self.steps.separator,
            )
            for parent, name in draws
        ]
        responses = yield from ask_all(requests)
        return [
            Partial(response=response, parent=parent, ended=self._ended(response, parent))
            for response, (parent, _) in zip(responses, draws, strict=True)
        ]

    def judge(self, partials: Sequence[Partial]) -> RequestGenerator[None]:
        """Set `whole` and `judged` of those that have none. Equal responses are scored once."""
        new = [partial for partial in partials if partial.whole is None]
        yield from self._complete(new)
        # The first of equal ones is scored.
        unread = {p.whole.tokens: p for p in reversed(new) if p.whole is not None}
        asked = [p for tokens, p in reversed(unread.items()) if tokens not in self._verdicts]
        verdicts = yield from ask_readable([self._score(partial) for partial in asked])
        for partial, verdict in zip(asked, verdicts, strict=True):
            assert partial.whole is not None
            # Without the keys and values: the verdicts are kept to the end.
            self._verdicts[partial.whole.tokens] = verdict and Judged(verdict.reward)
            partial.judged = verdict
        for partial in new:
            assert partial.whole is not None
            partial.judged = partial.judged or self._verdicts[partial.whole.tokens]
            partial.parent = None  # nor those of the responses before it
            if self.judged == "greedy" or partial.ended:
                self.first = self.first or partial
                if self.best is None or partial.value > self.best.value:
                    self.best = partial

    def complete(self, partial: Partial) -> RequestGenerator[Partial]:
        """The response with a greedy completion, as an ended one."""
        whole = yield from ask(self._completion(partial))
        return Partial(response=whole, ended=True)

    def _complete(self, partials: Iterable[Partial]) -> RequestGenerator[None]:
        requests, waiting = [], []
        for partial in partials:
            known = partial.parent and partial.parent.whole
            if self.judged == "partial" or partial.ended:
                partial.whole = partial.response
            elif known and known.tokens[: len(partial.tokens)] == partial.tokens:
                partial.whole = known
            else:
                waiting.append(partial)
                requests.append(self._completion(partial))
        completed = yield from ask_all(requests)
        for partial, whole in zip(waiting, completed, strict=True):
            partial.whole = whole

    def _completion(self, partial: Partial) -> Rollout:
        return Rollout(
            self.context,
            partial.tokens,
            self.max_tokens,
            replace(self.sampling, temperature=0.0),
            self._key("completion"),
            reuse=partial.response.cache,
        )

    def _score(self, partial: Partial) -> Score:
        assert partial.whole is not None
        before = partial.parent and partial.parent.judged
        return Score(
            self.context,
            partial.whole.tokens,
            reuse=before.cache if before else None,
            return_cache=True,
        )

    def _key(self, purpose: str) -> DrawKey:
        return DrawKey(self.seed, self.prompt.id, self.prompt.sample, purpose)

    def _ended(self, response: Response, parent: Partial) -> bool:
        # A response that did not grow has reached the end of the LM's context.
        grown = len(response.tokens) > len(parent.tokens)
        return response.finish == "stop" or len(response.tokens) >= self.max_tokens or not grown


def step_search(
    prompt: Prompt,
    steps: Steps,
    judged: Literal["greedy", "partial"],
    sampling: Sampling,
    seed: int,
    max_tokens: int,
) -> RequestGenerator[StepSearch]:
    """A search over the steps of a prompt's response."""
    context = yield from ask(Render(prompt))
    return StepSearch(
        prompt=prompt,
        context=context,
        steps=steps,
        judged=judged,
        sampling=sampling,
        max_tokens=max_tokens,
        seed=seed,
    )
