"""Scores: the judge reads responses, without a gradient."""

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
    """Serves `Score`: the judge reads responses, no gradient."""

    kinds: tuple[type[Request[Any]], ...] = (Score,)

    def __init__(self, judge: Reader, capacity: int, max_batch_tokens: int, *, keep: bool) -> None:
        super().__init__(capacity, max_batch_tokens)
        self._judge = judge
        self._keep = keep

    def size(self, request: Score) -> int:
        return len(request.context.lm) + len(request.tokens)

    @torch.inference_mode()
    def answer(self, requests: Sequence[Score]) -> Sequence[Result]:
        tasks = [Task(r.context, r.tokens, len(r.tokens), r.reuse) for r in requests]
        keep = self._keep and any(r.keep for r in requests)
        frames = [r.context.judge for r in requests]
        reads = self._judge.read(tasks, frames, gradient=False, keep=keep)
        results: list[Result] = []
        for request, task, read in zip(requests, tasks, reads, strict=True):
            task.book(paper_calls=request.paper_calls)
            results.append(
                Reply(Judged(read.reward, read.memory if request.keep else None), task.cost)
            )
        return results
