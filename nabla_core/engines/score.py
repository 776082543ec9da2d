"""Scores: the judge's rewards of responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nabla_core.engines.base import BatchEngine
from nabla_core.models.readers import Reader, Task
from nabla_core.requests import (
    Judged,
    Reply,
    Request,
    Result,
    Score,
)


class ScoreEngine(BatchEngine):
    """Serves `Score`. No gradient is taken. `return_cache`: replies carry a prefix cache if the
    request asks for one.

    `alone`: one response in a batch, and no cache. The rounding of matrix products depends on their
    shapes, which depend then on the response alone; in bfloat16 it can decide which of two rewards
    is higher.
    """

    kinds: tuple[type[Request[Any]], ...] = (Score,)

    def __init__(
        self,
        judge: Reader,
        capacity: int,
        max_batch_tokens: int,
        *,
        return_cache: bool,
        alone: bool = False,
    ) -> None:
        super().__init__(1 if alone else capacity, max_batch_tokens)
        self._judge = judge
        self._alone = alone
        self._return_cache = return_cache and not alone

    def size(self, request: Score) -> int:
        return len(request.context.lm) + len(request.tokens)

    @torch.inference_mode()
    def answer(self, requests: Sequence[Score]) -> Sequence[Result]:
        tasks = [
            Task(r.context, r.tokens, len(r.tokens), None if self._alone else r.reuse)
            for r in requests
        ]
        # Keys and values of the batch are kept together or not at all.
        return_cache = self._return_cache and any(r.return_cache for r in requests)
        frames = [r.context.judge for r in requests]
        reads = self._judge.read(tasks, frames, gradient=False, return_cache=return_cache)
        results: list[Result] = []
        for request, task, read in zip(requests, tasks, reads, strict=True):
            task.add_cost(paper_calls=request.paper_calls)
            results.append(
                Reply(Judged(read.reward, read.cache if request.return_cache else None), task.cost)
            )
        return results
