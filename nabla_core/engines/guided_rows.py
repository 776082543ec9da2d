"""The guided rows of a rollout batch: those whose `Sampling.beta` is set.

The guide reads them as the LM does, one token a step, if it has a model of its own. Rows without a
guide cost nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from nabla_core.engines.histories import Histories, prefix_caches
from nabla_core.engines.rollout_rows import Row
from nabla_core.errors import UNREADABLE, ModelError, NonFiniteError
from nabla_core.guides.decoding import DecodingGuide
from nabla_core.models.kv_buffer import order_of
from nabla_core.models.kv_cache import PrefixCache


class GuidedRows:
    """What the guide has read of the guided rows of one batch.

    `Row.guide_history` are the ids in the guide's vocabulary up to the pending token, which comes
    last and has not been read.
    """

    def __init__(self, guide: DecodingGuide | None) -> None:
        self._guide = guide
        self._reader = guide.reader if guide else None
        self._histories = Histories(self._reader.model) if self._reader else None
        self._rows: list[Row] = []

    def limit(self, row: Row) -> int:
        """The most response tokens that the guide has room for."""
        if row.request.sampling.beta is None or self._reader is None:
            return row.request.max_tokens
        return self._reader.model.context - len(row.request.context.guide[0])

    def width(self, row: Row) -> int:
        """The longest history that a row may have in the guide."""
        if row.request.sampling.beta is None or self._reader is None:
            return 0
        return len(row.request.context.guide[0]) + row.limit

    def prepare(self, row: Row) -> None:
        """Set what the guide reads of a row that is to be joined.

        Raises ModelError where no guide can decode, and EncodingError for a token of the prefix
        that the guide does not know.
        """
        if row.request.sampling.beta is None:
            return
        if self._guide is None:
            raise ModelError(
                f"beta={row.request.sampling.beta:g} needs a guide that decodes: reward.guide must "
                "be a head"
            )
        if self._reader is not None:
            row.guide_history = self._reader.history(row.request.context, row.tokens)

    def join(self, rows: Sequence[Row]) -> None:
        """Add the guided ones of some prepared rows; read what their caches do not hold."""
        guided = [row for row in rows if row.request.sampling.beta is not None]
        self._read([(row, _kept(row)) for row in guided])
        self._rows += guided

    def _read(self, rows: Sequence[tuple[Row, PrefixCache | None]]) -> None:
        """Add the histories of rows, which the given caches may hold."""
        if self._reader is None or self._histories is None or not rows:
            return
        started = time.perf_counter()
        sequences = [tuple(row.guide_history[:-1]) for row, _ in rows]
        caches, read = prefix_caches(self._reader.model, sequences, [cache for _, cache in rows])
        self._histories.add(caches)
        for index in read:
            row, _ = rows[index]
            row.guide_reads += 1
            row.guide_tokens += len(sequences[index])
            row.flops += self._reader.model.shape.forward(len(sequences[index]))
        seconds = (time.perf_counter() - started) / len(rows)
        for row, _ in rows:
            row.seconds += seconds

    def steer(self, rows: Sequence[Row], hidden: Tensor, logits: Tensor) -> float:
        """Add A / beta to the logits `[B, V]` of the guided rows, in place. `hidden` `[B, D]` is
        the LM's. A row whose advantages are not finite gets an error, and keeps its logits.
        Returns the seconds, which are added to the guided rows."""
        if not self._rows or self._guide is None:
            return 0.0
        started = time.perf_counter()
        place = {row: index for index, row in enumerate(rows)}
        members = [place[row] for row in self._rows]
        if self._histories is not None:
            states = self._histories.feed([row.guide_history[-1] for row in self._rows])
        else:
            states = hidden[members]
        advantages = self._guide.next_advantages(states)
        # NaN is an extreme too. Half the time of a look at every number.
        finite = advantages.amax(-1).isfinite() & advantages.amin(-1).isfinite()
        betas = torch.tensor(
            [row.request.sampling.beta for row in self._rows],
            dtype=logits.dtype,
            device=logits.device,
        )
        if not finite.all():
            advantages = advantages.where(finite[:, None], 0.0)
            self._fail(finite.tolist())
        if members == list(range(len(rows))):
            # All rows in their order: nothing of [B, V] is copied.
            logits.addcdiv_(advantages, betas[:, None])
        else:
            logits[members] += advantages / betas[:, None]
        seconds = time.perf_counter() - started
        self._add_cost(seconds / len(members))
        return seconds

    def _fail(self, finite: Sequence[bool]) -> None:
        for row, is_finite in zip(self._rows, finite, strict=True):
            if not is_finite and row.error is None:
                row.error = NonFiniteError(
                    f"prompt {row.request.key.prompt_id}: the guide's advantages at position "
                    f"{len(row.tokens)} of the response are not finite"
                )

    def _add_cost(self, seconds: float) -> None:
        assert self._guide is not None
        for row in self._rows:
            row.seconds += seconds
            row.flops += self._guide.next_flops()
            if self._reader is not None:
                row.guide_tokens += 1
                row.flops += self._reader.model.shape.forward(1, len(row.guide_history) - 1)

    def extend(self, ended: Collection[Row]) -> bool:
        """Take over the last token of each row that goes on. One that the guide does not know is
        the row's error; returns whether there was one."""
        if self._reader is None:
            return False
        failed = False
        reframed: list[Row] = []
        for row in self._rows:
            if row in ended:
                continue
            try:
                row.guide_history.append(self._reader.id_of(row.tokens[-1], len(row.tokens) - 1))
                if self._reader.may_reframe(row.guide_history[-1]):
                    whole = self._reader.history(row.request.context, row.tokens)
                    if whole != row.guide_history:
                        row.guide_history = whole
                        reframed.append(row)
            except UNREADABLE as error:
                row.error = type(error)(f"prompt {row.request.key.prompt_id}: {error}")
                failed = True
        if reframed:
            # Reasoning changes what is in front of the response: these are read again as a whole.
            self.keep([row for row in self._rows if row not in reframed])
            self._read([(row, None) for row in reframed])
            self._rows += reframed
        return failed

    def cache(self, row: Row) -> PrefixCache | None:
        """A copy of what the guide has read of a row that ends with the token just drawn."""
        if self._histories is None or row not in self._rows:
            return None
        return self._histories.cut(self._rows.index(row), tuple(row.guide_history))

    def keep(self, rows: Collection[Row]) -> None:
        """Drop the others."""
        kept = set(rows)
        removed = [place for place, row in enumerate(self._rows) if row not in kept]
        if not removed:
            return
        places = order_of(len(self._rows), removed)
        self._rows = [self._rows[place] for place in places]
        if self._histories is not None:
            self._histories.keep(places)

    def clear(self) -> None:
        self._rows = []
        if self._histories is not None:
            self._histories.clear()


def _kept(row: Row) -> PrefixCache | None:
    """The guide's cache of the response that a row continues."""
    reuse: PrefixCache | None = row.request.reuse
    return reuse.guide if reuse is not None else None
