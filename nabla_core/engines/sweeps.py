"""Sweeps and scores: a response in, what LM, guide and judge make of it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nabla_core.config import NablaConfig
from nabla_core.engines.base import BatchEngine
from nabla_core.guides.base import Gradients, Guide
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.readers import Task, read_lm
from nabla_core.requests import (
    Reply,
    Request,
    Result,
    Sweep,
    Swept,
)


class SweepEngine(BatchEngine):
    """Serves `Sweep`."""

    kinds: tuple[type[Request[Any]], ...] = (Sweep,)

    def __init__(self, guide: Guide, capacity: int, max_batch_tokens: int) -> None:
        super().__init__(capacity, max_batch_tokens)
        self._guide = guide

    def size(self, request: Sweep) -> int:
        return len(request.context.lm) + len(request.response.tokens)

    def answer(self, requests: Sequence[Sweep]) -> Sequence[Result]:
        groups: dict[NablaConfig, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(request.config, []).append(index)
        results: dict[int, Result] = {}
        for config, members in groups.items():
            sweep = self._guided if config.takes_gradient else self._likelihood_only
            answers = sweep([requests[i] for i in members], config)
            results.update(zip(members, answers, strict=True))
        return [results[i] for i in range(len(requests))]

    def _guided(self, requests: Sequence[Sweep], config: NablaConfig) -> list[Result]:
        tasks = [Task(r.context, r.response.tokens, r.boundary, _guide_cache(r)) for r in requests]
        reads = self._guide.read(tasks, [r.response.cache for r in requests], config)
        results: list[Result] = []
        for request, task, read in zip(requests, tasks, reads, strict=True):
            gradients = Gradients(
                request.context,
                request.response,
                config,
                read.lm,
                {request.response.tokens: read.guide_state},
                read.cache,
            )
            results.append(Reply(Swept(read.judged, gradients), task.cost))
        return results

    def _likelihood_only(self, requests: Sequence[Sweep], config: NablaConfig) -> list[Result]:
        tasks = [Task(r.context, r.response.tokens, r.boundary, r.response.cache) for r in requests]
        results: list[Result] = []
        lm_reads = read_lm(self._guide.lm, tasks, gradient=False)
        for request, task, lm in zip(requests, tasks, lm_reads, strict=True):
            task.add_cost(paper_calls=1)
            gradients = Gradients(request.context, request.response, config, lm)
            results.append(Reply(Swept(None, gradients), task.cost))
        return results


def _guide_cache(request: Sweep) -> PrefixCache | None:
    previous: Gradients | None = request.previous
    return previous.guide_cache if previous else None
