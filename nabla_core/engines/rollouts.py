"""Rollouts with transformers: continuous batching in one left-padded batch.

Rows join the batch when there is room and leave it when they end. A request whose prefix is in
the cache of another response continues from there: its history is copied, nothing is read twice.
A new prompt is read once, however many rollouts start from it in the same step.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nabla_core.config import Sampling
from nabla_core.draws import uniform_at
from nabla_core.engines.guided_rows import GuidedRows
from nabla_core.engines.histories import Histories, prefix_caches
from nabla_core.engines.rollout_rows import Row
from nabla_core.errors import UNREADABLE, ContextError, ModelError, NonFiniteError
from nabla_core.guides.decoding import DecodingGuide
from nabla_core.models.kv_buffer import order_of
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.loading import LanguageModel
from nabla_core.models.vocab import ids_with_text
from nabla_core.requests import Reply, Request, Response, Result, Rollout
from nabla_core.sampling import draw, without_unlikely
from nabla_core.types import FinishReason


class RolloutEngine:
    """Serves `Rollout`. At most `capacity` rows and about `max_batch_tokens` tokens at once.

    If a batch fails as a whole, its rows start again one at a time, so that only the bad one
    fails. Draws are keyed, so a row that starts again draws the same tokens. `return_cache`:
    replies carry a prefix cache if the request asks for one. `guide`: what rollouts with
    `Sampling.beta` are guided by. Guided and other rows share a batch; only guided ones are read by
    the guide.
    """

    kinds: tuple[type[Request[Any]], ...] = (Rollout,)
    cheap = False

    def __init__(
        self,
        lm: LanguageModel,
        capacity: int,
        max_batch_tokens: int,
        *,
        return_cache: bool = True,
        guide: DecodingGuide | None = None,
    ) -> None:
        self.capacity = capacity
        self._return_cache = return_cache
        self._lm = lm
        self._max_batch_tokens = max_batch_tokens
        self._queue: deque[tuple[int, Rollout]] = deque()
        self._suspects: deque[tuple[int, Rollout]] = deque()
        # The batch: its rows, and what LM and guide have read of them.
        self._rows: list[Row] = []
        self._groups: list[tuple[Sampling, list[int]]] | None = None
        self._holders: dict[str, frozenset[int]] = {}
        self._histories = Histories(lm)
        self._guided = GuidedRows(guide)

    @property
    def waiting(self) -> int:
        return len(self._queue) + len(self._suspects) + len(self._rows)

    def submit(self, ticket: int, request: Request[Any]) -> None:
        assert isinstance(request, Rollout)
        self._queue.append((ticket, request))

    def forget(self) -> None:
        self._queue.clear()
        self._suspects.clear()
        self._drop_rows()

    @torch.inference_mode()
    def step(self) -> list[tuple[int, Result]]:
        """Admit what fits, then decode until some row ends."""
        admitted: list[Row] = []
        finished: list[tuple[int, Result]] = []
        try:
            self._admit(admitted, finished)
            # The flow of a finished row may send a new request, so the step ends here.
            while self._rows and not finished:
                finished = self._decode()
        except Exception as error:  # noqa: BLE001 - becomes the one row's result
            finished += self._isolate(admitted, error)
        return finished

    def _isolate(self, admitted: list[Row], error: Exception) -> list[tuple[int, Result]]:
        """Empty the batch. A row that failed alone gets the error; others become suspects."""
        # A row may be in both lists: it was admitted and entered the batch in the failed step.
        rows = list({id(row): row for row in [*self._rows, *admitted]}.values())
        self._drop_rows()
        if len(rows) == 1:
            return [(rows[0].ticket, error)]
        self._suspects.extend((row.ticket, row.request) for row in rows)
        return []

    def _drop_rows(self) -> None:
        self._rows, self._groups = [], None
        self._histories.clear()
        self._guided.clear()

    # Admission ------------------------------------------------------------------------

    def _admit(self, admitted: list[Row], finished: list[tuple[int, Result]]) -> None:
        """Move requests from the queue into the batch; those with nothing to generate end here."""
        if self._suspects:  # one at a time, each alone
            source, room = self._suspects, 0 if self._rows else 1
        else:
            source, room = self._queue, self.capacity - len(self._rows)
            # Joining copies the whole batch: wait until a quarter of the rows have left.
            if self._rows and room < self.capacity // 4:
                return
        # Room is reserved for what a row may become, not for what it is: no row is ever evicted.
        width = max((self._width(row) for row in self._rows), default=0)
        while source and len(admitted) < room:
            row = self._row(*source[0])
            width = max(width, self._width(row))
            rows = len(self._rows) + len(admitted) + 1
            # A row beyond the limit still runs, alone.
            if rows > 1 and rows * width > self._max_batch_tokens:
                break
            source.popleft()
            if row.limit < 1 and not row.tokens:
                finished.append((row.ticket, ContextError("there is no room for a response")))
            elif self._ended(row):
                finished.append((row.ticket, self._reply(row, None)))
            elif (error := self._refusal(row)) is not None:
                finished.append((row.ticket, error))
            else:
                admitted.append(row)
        if admitted:
            self._join(admitted)

    def _row(self, ticket: int, request: Rollout) -> Row:
        row = Row(ticket, request, list(request.prefix), request.max_tokens)
        room = self._lm.context - len(request.context.lm)
        row.limit = min(request.max_tokens, room, self._guided.limit(row))
        return row

    def _width(self, row: Row) -> int:
        """The longest history that a row may have in LM or guide."""
        return max(len(row.prompt) + row.limit, self._guided.width(row))

    def _refusal(self, row: Row) -> Exception | None:
        """Why a row cannot be generated, or None: its separator is no token's, or the guide cannot
        read it."""
        if row.request.until is not None:
            row.until = self._holding(row.request.until)
            if not row.until:
                return ModelError(
                    f"steps.separator {row.request.until!r}: no token of {self._lm.source} holds "
                    "this text, so no step would end with it"
                )
        try:
            self._guided.prepare(row)
        except UNREADABLE as error:
            return type(error)(f"prompt {row.request.key.prompt_id}: {error}")
        except ModelError as error:
            return error
        return None

    def _holding(self, text: str) -> frozenset[int]:
        """The tokens whose text holds this one."""
        if text not in self._holders:
            self._holders[text] = ids_with_text(self._lm.tokenizer, self._lm.no_token, text)
        return self._holders[text]

    def _join(self, rows: list[Row]) -> None:
        """Read what the rows' caches do not hold, and join them to the batch."""
        started = time.perf_counter()
        reads = [row.read for row in rows]
        caches, read = prefix_caches(self._lm, reads, [row.request.reuse for row in rows])
        for index in read:
            # The cost of reading a history is added to the first row that has it.
            rows[index].prefilled = len(reads[index])
            rows[index].flops += self._lm.shape.forward(len(reads[index]))
        self._histories.add(caches)
        seconds = (time.perf_counter() - started) / len(rows)
        for row in rows:
            row.seconds += seconds
        self._guided.join(rows)
        self._rows, self._groups = [*self._rows, *rows], None

    # Decoding -------------------------------------------------------------------------

    def _decode(self) -> list[tuple[int, Result]]:
        """One token for every row; returns the rows that end with it."""
        started = time.perf_counter()
        lm, rows = self._lm, self._rows
        hidden = self._histories.feed([row.pending for row in rows])
        logits = lm.logits(hidden)
        self._fail_where(~lm.finite(logits), logits)
        self._restrict(logits)
        guide_seconds = self._guided.steer(rows, hidden, logits)
        tokens = self._draw(logits)
        seconds = (time.perf_counter() - started - guide_seconds) / len(rows)
        for row, token in zip(rows, tokens, strict=True):
            row.seconds += seconds
            if row.error is None:
                row.tokens.append(token)
        ended = [i for i, row in enumerate(rows) if self._ended(row)]
        # A token that the guide does not know ends a row too.
        if self._guided.extend({rows[i] for i in ended}):
            ended = [i for i, row in enumerate(rows) if self._ended(row)]
        return self._remove(ended) if ended else []

    def _fail_where(self, failed: Tensor, logits: Tensor) -> None:
        """Give an error to the rows where `failed` (bool `[B]`), and to their logits any finite
        value: the others are drawn in the same call."""
        if not failed.any():
            return
        logits[failed] = 0.0
        for row, fails in zip(self._rows, failed.tolist(), strict=True):
            if fails:
                row.error = NonFiniteError(
                    f"prompt {row.request.key.prompt_id}: the LM's logits at position "
                    f"{len(row.tokens)} of the response are not finite"
                )

    def _by_sampling(self) -> list[tuple[Sampling, list[int]]]:
        """The rows with each sampling."""
        if self._groups is None:
            groups: dict[Sampling, list[int]] = {}
            for index, row in enumerate(self._rows):
                groups.setdefault(row.request.sampling, []).append(index)
            self._groups = list(groups.items())
        return self._groups

    def _restrict(self, logits: Tensor) -> None:
        """Take out what `Sampling.min_p` leaves out, in place."""
        for sampling, members in self._by_sampling():
            if sampling.min_p:
                logits[members] = without_unlikely(logits[members], sampling.min_p)

    def _draw(self, logits: Tensor) -> list[int]:
        groups = self._by_sampling()
        tokens = [0] * len(self._rows)
        # Rows with the same sampling are drawn together. The counter of a draw is the position
        # in the response, so a tail does not depend on how its prefix was made.
        for sampling, members in groups:
            numbers = [0.0] * len(members)
            if sampling.temperature:
                rows = [self._rows[i] for i in members]
                numbers = [uniform_at(row.stream, len(row.tokens)) for row in rows]
            chosen = draw(
                # Not copied where all rows are drawn alike.
                logits[members] if len(groups) > 1 else logits,
                sampling,
                torch.tensor(numbers, dtype=torch.float64, device=logits.device),
            )
            for index, token in zip(members, chosen.tolist(), strict=True):
                tokens[index] = token
        return tokens

    def _remove(self, ended: list[int]) -> list[tuple[int, Result]]:
        """Take the rows at these indices, which ascend, out of the batch; returns their results."""
        finished: list[tuple[int, Result]] = []
        for i in ended:
            row = self._rows[i]
            if row.error is not None:
                finished.append((row.ticket, row.error))
            else:
                finished.append((row.ticket, self._reply(row, self._cache(i))))
        remaining = order_of(len(self._rows), ended)
        self._rows, self._groups = [self._rows[i] for i in remaining], None
        self._histories.keep(remaining)
        self._guided.keep(self._rows)
        return finished

    def _cache(self, index: int) -> PrefixCache | None:
        """The prefix cache of a response that has ended, if its request asks for one."""
        row = self._rows[index]
        if not (row.request.return_cache and self._return_cache):
            return None
        cache = self._histories.cut(index, row.read)
        return replace(cache, guide=self._guided.cache(row))

    def _ended(self, row: Row) -> bool:
        if row.error is not None or len(row.tokens) >= row.limit:
            return True
        return bool(row.tokens) and (row.tokens[-1] in self._lm.stop or row.at_end_of_step)

    def _reply(self, row: Row, cache: PrefixCache | None) -> Reply[Response]:
        # There is a last token: `_admit` refuses a row without room for one.
        finish: FinishReason = "stop" if row.tokens[-1] in self._lm.stop else "length"
        return Reply(Response(tuple(row.tokens), finish, cache), row.cost(self._lm.shape))
