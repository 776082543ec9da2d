"""Sweeps: LM and guide read responses, and what the proposals need of that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from nabla_core.config import NablaConfig
from nabla_core.engines.base import BatchEngine, answer_by_group
from nabla_core.guides.base import Gradients, Guide
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.readers import LMRead, Task, read_lm
from nabla_core.requests import (
    Reply,
    Request,
    Result,
    Sweep,
    Swept,
)


class SweepEngine(BatchEngine):
    """Serves `Sweep`: batches of one config each, for a config decides what is computed."""

    kinds: tuple[type[Request[Any]], ...] = (Sweep,)

    def __init__(self, guide: Guide, capacity: int, max_batch_tokens: int) -> None:
        super().__init__(capacity, max_batch_tokens)
        self._guide = guide

    def size(self, request: Sweep) -> int:
        return len(request.context.lm) + len(request.response.tokens)

    def answer(self, requests: Sequence[Sweep]) -> Sequence[Result]:
        return answer_by_group(requests, attrgetter("config"), self._sweep)

    def _sweep(self, config: NablaConfig, requests: Sequence[Sweep]) -> list[Result]:
        sweep = self._guided if config.uses_guide else self._likelihood_only
        return sweep(requests, config)

    def _guided(self, requests: Sequence[Sweep], config: NablaConfig) -> list[Result]:
        tasks = [Task(r.context, r.response.tokens, r.boundary, _guide_cache(r)) for r in requests]
        reads = self._guide.read(tasks, [r.response.cache for r in requests], config)
        results: list[Result] = []
        for request, task, read in zip(requests, tasks, reads, strict=True):
            gradients = Gradients(
                context=request.context,
                response=request.response,
                config=config,
                lm=read.lm,
                # The response is the first hard sequence; others follow where an argmax moves.
                guide_states={request.response.tokens: read.guide_state},
                guide_cache=read.cache,
            )
            swept = Swept(read.judged, gradients, _log_probabilities(read.lm))
            results.append(Reply(swept, task.cost))
        return results

    def _likelihood_only(self, requests: Sequence[Sweep], config: NablaConfig) -> list[Result]:
        tasks = [Task(r.context, r.response.tokens, r.boundary, r.response.cache) for r in requests]
        # No guide is used: only the LM reads, which is one call by the paper's count.
        results: list[Result] = []
        lm_reads = read_lm(self._guide.lm, tasks, gradient=False)
        for request, task, lm in zip(requests, tasks, lm_reads, strict=True):
            task.add_cost(paper_calls=1)
            gradients = Gradients(
                context=request.context, response=request.response, config=config, lm=lm
            )
            results.append(Reply(Swept(None, gradients, _log_probabilities(lm)), task.cost))
        return results


def _log_probabilities(lm: LMRead) -> tuple[float, ...]:
    return tuple(lm.likelihood.log_probability.float().tolist())


def _guide_cache(request: Sweep) -> PrefixCache | None:
    previous: Gradients | None = request.previous
    if previous is not None:
        # Both responses have the same tokens before `boundary`, so their keys and values too.
        return previous.guide_cache
    # A guided rollout has read the prompt already.
    cache: PrefixCache | None = request.response.cache
    return cache.guide if cache is not None else None
