"""From counterfactuals in the LM's ids to what a guide in training is fed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from nabla_core.errors import ContextError, PromptError
from nabla_core.guide_training.settings import Kind
from nabla_core.methods.counterfactuals import Place
from nabla_core.models.readers import spoken
from nabla_core.models.templates import render_for_reward
from nabla_core.models.vocab import VocabularyMap
from nabla_core.types import Prompt


@dataclass(frozen=True, slots=True)
class Record:
    """A response and what was tried in it, LM ids; `name` is what errors call it."""

    name: str
    prompt: Prompt
    tokens: tuple[int, ...]
    score: float
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class ScoredPosition:
    """One position: where its token stands in the ids, guide ids of the tokens tried (the one
    taken first), their scores, the LM's log-probabilities of them (all 0: not known)."""

    index: int
    tokens: tuple[int, ...]
    scores: tuple[float, ...]
    log_probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A framed response in guide ids, and its positions."""

    name: str
    prompt_id: str
    ids: tuple[int, ...]
    score: float
    places: tuple[ScoredPosition, ...]


@dataclass(frozen=True)
class GuideEncoder:
    """How a guide reads: its tokenizer, the map of the LM's ids to its own, its context."""

    tokenizer: Any
    vocabulary: VocabularyMap
    stop: frozenset[int]
    context: int
    kind: Kind

    def example(self, record: Record, *, least: float = float("-inf")) -> Example:
        """Tokens that the LM held for less likely than `least` (log-probability) or that the
        guide does not know are left out, and positions where only the one taken remains or
        where that is the one it does not know (a stop token, behind a chat template).

        Raises PromptError (ContextError) naming the record where fewer than two tokens were
        tried at a position, a number is not finite, or the response does not fit.
        """
        before, after = render_for_reward(record.prompt, self.tokenizer)
        body = self.vocabulary.translate(spoken(self.tokenizer, self.stop, record.tokens))
        ids = (*before, *body, *(after if self.kind == "gradient" else ()))
        if len(ids) > self.context:
            raise ContextError(
                f"{record.name}: {len(ids)} tokens to the guide, whose context is {self.context}"
            )
        # A gradient is of the token at its place; the head needs the token before it alone.
        reach = len(body) if self.kind == "gradient" else len(record.tokens)
        places = [
            self._tried(record, place, len(before), least)
            for place in record.places
            if place.position < reach
        ]
        kept = tuple(place for place in places if len(place.tokens) > 1)
        return Example(record.name, record.prompt.id, ids, record.score, kept)

    def _tried(self, record: Record, place: Place, before: int, least: float) -> ScoredPosition:
        if len(place.tokens) < 2:
            raise PromptError(
                f"{record.name}: {len(place.tokens)} token was tried at position "
                f"{place.position}; two are needed to compare"
            )
        if not all(map(isfinite, (record.score, *place.scores))):
            raise PromptError(f"{record.name}: a score at position {place.position} is not finite")
        ids: list[int] = self.vocabulary.ids[list(place.tokens)].tolist()
        tried = zip(ids, place.scores, place.log_probabilities, strict=True)
        if ids[0] < 0:  # gains are over the token taken
            return ScoredPosition(before + place.position, (), (), ())
        kept = [one for n, one in enumerate(tried) if one[0] >= 0 and (n == 0 or one[2] >= least)]
        tokens, scores, log_probabilities = zip(*kept, strict=True)
        return ScoredPosition(before + place.position, tokens, scores, log_probabilities)


@dataclass(eq=False)
class Batch:
    """Examples as tensors. R responses of at most L ids, N positions in all, K tokens at most.

    ids `[R, L]` right-padded, last `[R]` (each row's last id), score `[R]`; row, index `[N]` say
    which response a position belongs to and where it stands; tokens, scores, prior (the LM's
    log-probabilities), tried `[N, K]` (`tried` False where there is no such token), the token
    taken first.
    """

    ids: Tensor
    last: Tensor
    score: Tensor
    row: Tensor
    index: Tensor
    tokens: Tensor
    scores: Tensor
    prior: Tensor
    tried: Tensor

    @classmethod
    def of(cls, examples: Sequence[Example], device: torch.device) -> Batch:
        width = max(len(e.ids) for e in examples)
        places = [(row, place) for row, e in enumerate(examples) for place in e.places]
        most = max(len(place.tokens) for _, place in places)

        def padded(values: Sequence[Any], size: int, fill: Any) -> list[Any]:
            return [*values, *[fill] * (size - len(values))]

        return cls(
            ids=torch.tensor([padded(e.ids, width, 0) for e in examples]).to(device),
            last=torch.tensor([len(e.ids) - 1 for e in examples]).to(device),
            score=torch.tensor([e.score for e in examples]).to(device),
            row=torch.tensor([row for row, _ in places]).to(device),
            index=torch.tensor([place.index for _, place in places]).to(device),
            tokens=torch.tensor([padded(p.tokens, most, 0) for _, p in places]).to(device),
            scores=torch.tensor([padded(p.scores, most, 0.0) for _, p in places]).to(device),
            prior=torch.tensor([padded(p.log_probabilities, most, 0.0) for _, p in places]).to(
                device
            ),
            tried=torch.tensor([padded([True] * len(p.tokens), most, False) for _, p in places]).to(
                device
            ),
        )
