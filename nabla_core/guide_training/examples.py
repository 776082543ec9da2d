"""Training examples: a `Record` in LM ids becomes an `Example` in guide ids, and a list of
examples becomes a `Batch` of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from nabla_core.errors import ContextError, PromptError
from nabla_core.guide_training.settings import Kind
from nabla_core.methods.counterfactuals import Place
from nabla_core.model_config import ToolsFor
from nabla_core.models.readers import strip_stop_token
from nabla_core.models.vocab import VocabularyMap
from nabla_core.text.templates import render_for_lm, render_for_reward
from nabla_core.text.thinking import ThinkBlock, before_response, think_block
from nabla_core.types import Prompt


@dataclass(frozen=True, slots=True)
class Record:
    """A response in LM ids, its score, and the counterfactuals at its positions. Errors refer to
    it by `name`."""

    name: str
    prompt: Prompt
    tokens: tuple[int, ...]
    score: float
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class ScoredPosition:
    """The candidate tokens at one position of an example.

    `index` is the position's index in the example's ids. `tokens` are guide ids, the token of
    the response first; `scores` and the LM's `log_probabilities` (all 0 where unknown) are
    parallel to them.
    """

    index: int
    tokens: tuple[int, ...]
    scores: tuple[float, ...]
    log_probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with its response as the guide reads it, in guide ids, and the scored positions."""

    name: str
    prompt_id: str
    ids: tuple[int, ...]
    score: float
    positions: tuple[ScoredPosition, ...]


@dataclass(frozen=True, kw_only=True)
class GuideEncoder:
    """Turns records into examples of one guide: its tokenizer, the map from LM ids to its ids,
    the LM's stop tokens, the guide's context length in tokens, its kind, and whether it reads the
    tools of prompts."""

    tokenizer: Any
    vocabulary: VocabularyMap
    stop: frozenset[int]
    context: int
    kind: Kind
    tools: ToolsFor = "shown"

    @cached_property
    def _think(self) -> ThinkBlock | None:
        return think_block(self.tokenizer)

    def encode(self, record: Record, *, min_log_probability: float = float("-inf")) -> Example:
        """The record as an example.

        Candidates that are unknown to the guide, or whose log-probability under the LM is below
        `min_log_probability`, are dropped. A position is dropped where only the token of the
        response remains, or where that token is itself unknown to the guide (a stop token in
        front of a chat template).

        Raises PromptError naming the record where a position has fewer than two candidates or
        a score is not finite, and ContextError where the example exceeds the guide's context.
        """
        before, body, after = self._frame(record)
        ids = (*before, *body, *after)
        if len(ids) > self.context:
            raise ContextError(
                f"{record.name}: {len(ids)} tokens to the guide, whose context is {self.context}"
            )
        # A gradient is taken at the token's own embedding, so the token must be in the guide's
        # input. Heads predict position i from the token before it, so they also cover a stop
        # token that the guide itself does not read.
        usable = len(body) if self.kind == "gradient" else len(record.tokens)
        positions = [
            self._scored_position(record, place, len(before), min_log_probability)
            for place in record.places
            if place.position < usable
        ]
        kept = tuple(position for position in positions if len(position.tokens) > 1)
        return Example(record.name, record.prompt.id, ids, record.score, kept)

    def _frame(self, record: Record) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
        """The ids of a record as the guide reads them: before the response, of it, and after."""
        if self.kind == "value_head":
            # The LM's own hidden states: it reads what it reads in a rollout.
            return render_for_lm(record.prompt, self.tokenizer)[1], record.tokens, ()
        told = record.prompt if self.tools == "shown" else record.prompt.without_tools()
        plain, after = render_for_reward(told, self.tokenizer)
        body = self.vocabulary.translate(strip_stop_token(self.tokenizer, self.stop, record.tokens))
        before = before_response(self._think, self.tokenizer, tuple(plain), body)
        # What follows the response cannot change the predictions of a head: attention is causal.
        return before, body, after if self.kind == "gradient" else ()

    def _scored_position(
        self, record: Record, place: Place, offset: int, min_log_probability: float
    ) -> ScoredPosition:
        if len(place.tokens) < 2:
            raise PromptError(
                f"{record.name}: {len(place.tokens)} token was tried at position "
                f"{place.position}; two are needed to compare"
            )
        if not all(map(isfinite, (record.score, *place.scores))):
            raise PromptError(f"{record.name}: a score at position {place.position} is not finite")
        ids: list[int] = self.vocabulary.ids[list(place.tokens)].tolist()
        index = offset + place.position
        # Advantages are relative to the token of the response: without it nothing can be learned.
        if ids[0] < 0:
            return ScoredPosition(index, (), (), ())
        candidates = zip(ids, place.scores, place.log_probabilities, strict=True)
        kept = [
            candidate
            for n, candidate in enumerate(candidates)
            if candidate[0] >= 0 and (n == 0 or candidate[2] >= min_log_probability)
        ]
        tokens, scores, log_probabilities = zip(*kept, strict=True)
        return ScoredPosition(index, tokens, scores, log_probabilities)


@dataclass(eq=False, kw_only=True)
class Batch:
    """Examples as tensors: R responses of at most L ids, N positions in all, at most K candidates
    at a position.

    - `ids` `[R, L]`, right-padded with 0; `last` `[R]` is the index of each row's last id;
      `score` `[R]` is the score of each response.
    - `row` and `index` `[N]`: the response that a position belongs to, and its index in `ids`.
    - `tokens`, `scores`, `log_probabilities` `[N, K]`: the candidates, the token of the response
      first. `mask` `[N, K]` is False in the padding.
    """

    ids: Tensor
    last: Tensor
    score: Tensor
    row: Tensor
    index: Tensor
    tokens: Tensor
    scores: Tensor
    log_probabilities: Tensor
    mask: Tensor

    @classmethod
    def of(cls, examples: Sequence[Example], device: torch.device) -> Batch:
        length = max(len(e.ids) for e in examples)
        positions = [(row, position) for row, e in enumerate(examples) for position in e.positions]
        candidates = max(len(position.tokens) for _, position in positions)

        def padded(values: Sequence[Any], size: int, fill: Any) -> list[Any]:
            return [*values, *[fill] * (size - len(values))]

        def tensor(values: list[Any]) -> Tensor:
            return torch.tensor(values).to(device)

        return cls(
            ids=tensor([padded(e.ids, length, 0) for e in examples]),
            last=tensor([len(e.ids) - 1 for e in examples]),
            score=tensor([e.score for e in examples]),
            row=tensor([row for row, _ in positions]),
            index=tensor([p.index for _, p in positions]),
            tokens=tensor([padded(p.tokens, candidates, 0) for _, p in positions]),
            scores=tensor([padded(p.scores, candidates, 0.0) for _, p in positions]),
            log_probabilities=tensor(
                [padded(p.log_probabilities, candidates, 0.0) for _, p in positions]
            ),
            mask=tensor([padded([True] * len(p.tokens), candidates, False) for _, p in positions]),
        )
