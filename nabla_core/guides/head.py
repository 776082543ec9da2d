"""The head guide: the advantages of all replacements, predicted in one forward pass.

A causal backbone and a linear head: at the token before position i, `W h` are the advantages
A_i `[V]` of every token that could stand at i, in units of the judge's reward. The backbone is
causal because the tail behind i is rolled out again: the advantage depends on the prefix alone.
There is no backward pass, not even of the LM: the ranking adds the likelihood itself. The same
advantages guide decoding, token by token (`guides.decoding`).

On disk a head is a causal LM of transformers whose output layer is `W`, with `nabla_guide: head`
in its config. It differs from an LM in one thing: its outputs are advantages, not logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nabla_core.config import NablaConfig, Objective
from nabla_core.errors import ContextError
from nabla_core.guides.base import GuideRead, rows_of
from nabla_core.guides.decoding import HistoryReader
from nabla_core.guides.predicted import PredictedAdvantages, loss_rows
from nabla_core.models.forward import read
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.loading import LanguageModel
from nabla_core.models.readers import Task, strip_stop_token
from nabla_core.models.vocab import VocabularyMap
from nabla_core.text.thinking import think_block

KIND_KEY = "nabla_guide"


@dataclass(eq=False)
class HeadState:
    """`hidden` `[T-start, D]`: hidden states of the backbone, from `start` on. The rows `W h` are
    formed when they are needed. `known`: whether the head knows the token of the response; a stop
    token that a chat template leaves out is not known, and its replacements have advantage 0."""

    start: int
    hidden: Tensor
    known: Sequence[bool]


class HeadGuide(PredictedAdvantages):
    """An LM and a head. See `guides.base.Guide` and `guides.decoding.DecodingGuide`."""

    def __init__(
        self,
        lm: LanguageModel,
        head: LanguageModel,
        vocabulary: VocabularyMap,
        *,
        return_cache: bool,
    ) -> None:
        super().__init__(lm, head.source)
        self.head = head
        self.vocabulary = vocabulary
        self.reader = HistoryReader(head, vocabulary, think_block(head.tokenizer))
        self._return_cache = return_cache
        self._ids = vocabulary.ids.clamp(min=0).to(head.device)
        self._unknown = vocabulary.ids.lt(0).to(head.device)
        # One tokenizer for both: outputs are in the LM's order already.
        own = torch.arange(len(vocabulary.ids))
        known = vocabulary.ids >= 0
        fits = len(own) <= head.head.out_features
        self._same_ids = fits and bool((vocabulary.ids == own)[known].all())

    def read(
        self, tasks: Sequence[Task], lm_caches: Sequence[PrefixCache | None], config: NablaConfig
    ) -> list[GuideRead]:
        lm_reads = self._read_lm(tasks, lm_caches, config)
        with torch.no_grad():
            head_reads = self._read_head(tasks)
        reads = []
        for task, lm, (state, cache) in zip(tasks, lm_reads, head_reads, strict=True):
            task.add_cost(paper_calls=1)  # the forward pass of the head
            reads.append(GuideRead(lm, state, cache, None))
        return reads

    def rows(
        self, chosen: Sequence[tuple[HeadState, int]], objective: Objective, logits: Tensor
    ) -> Tensor:
        hidden = rows_of([(a.hidden, i - a.start) for a, i in chosen])
        rows = loss_rows(self._advantages(hidden), objective)
        # A row for an unknown token would be of another token: 0 everywhere, so no advantage.
        known = torch.tensor([a.known[i - a.start] for a, i in chosen], device=rows.device)
        return rows.where(known[:, None], 0.0)

    def next_advantages(self, hidden: Tensor) -> Tensor:
        return self._advantages(hidden).masked_fill_(self._unknown, 0.0)

    def next_flops(self) -> float:
        return self.head.shape.head(1)

    def _advantages(self, hidden: Tensor) -> Tensor:
        """hidden `[n, D]` -> new fp32 `[n, V]` in the order of the LM's ids; of no meaning for
        those that the head does not know."""
        outputs = self.head.head(hidden).float()
        return outputs[:, : len(self._ids)] if self._same_ids else outputs[:, self._ids]

    def _read_head(self, tasks: Sequence[Task]) -> list[tuple[HeadState, PrefixCache | None]]:
        """The head's state of each response and its prefix cache, from one forward pass. The last
        token of a response is not read: no position follows it."""
        readings, befores = [], []
        for task in tasks:
            body = strip_stop_token(self.head.tokenizer, self.lm.stop, task.tokens)
            history = self.reader.history(task.context, body)
            before = len(history) - len(body)
            befores.append(before)
            # The last token is cut off here, unless it was a stop token that is stripped already.
            tokens = tuple(history[: before + len(task.tokens) - 1])
            if len(tokens) > self.head.context:
                raise ContextError(
                    f"prompt and response are {len(tokens)} tokens to the guide, whose context "
                    f"is {self.head.context}"
                )
            # The token before `start` must be fed: its hidden state predicts position `start`.
            readings.append(task.reading(tokens, before - 1 + task.start))
        forward = read(self.head, readings, gradient=False, return_cache=self._return_cache)
        states = []
        for row, (task, reading) in enumerate(zip(tasks, readings, strict=True)):
            first = befores[row] - 1 + task.start - reading.cached
            hidden = forward.hidden[row, first : first + len(task.tokens) - task.start]
            cache = forward.prefix_cache(row, len(reading.tokens)) if self._return_cache else None
            known = self.vocabulary.ids[list(task.tokens[task.start :])].ge(0).tolist()
            states.append((HeadState(task.start, hidden, known), cache))
            task.add_cost(
                rm_forward=1,
                token_passes=reading.fed,
                flops=self.head.shape.forward(reading.fed, reading.cached),
            )
        return states
