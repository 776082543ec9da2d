"""Sweeps and scores: a response in, what LM, guide and judge make of it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from nabla_core.config import NablaConfig, Objective
from nabla_core.engines.base import BatchEngine
from nabla_core.models.kv_cache import Memory
from nabla_core.models.loading import LanguageModel
from nabla_core.models.readers import LMRead, Task, read_lm
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import (
    Context,
    Judged,
    Reply,
    Request,
    Response,
    Result,
    Sweep,
    Swept,
)


@dataclass(eq=False)
class Gradients:
    """Everything a sweep leaves behind for the proposals of one response.

    `slopes` maps hard sequences to what the guide made of them: the response itself first,
    others as argmax flips ask for them. `guide_memory` lets later passes over the same prefix
    start late. `plan` is the proposing engine's own.
    """

    context: Context
    response: Response
    config: NablaConfig
    lm: LMRead
    slopes: dict[tuple[int, ...], Any] = field(default_factory=dict)
    guide_memory: Memory | None = None
    plan: Any = None

    @property
    def start(self) -> int:
        return self.lm.start


@dataclass(eq=False)
class Look:
    """What a guide makes of one response: the LM's reading, the guide's own `worth` (what
    `Guide.rows` wants back), a memory for later looks, and the reward where it judges."""

    lm: LMRead
    worth: Any
    memory: Memory | None
    judged: Judged | None


class Guide(Protocol):
    """Says what every replacement of every token of a response is worth.

    `GradientGuide` reads it off a gradient, `HeadGuide` predicts it. `vocabulary` tells which
    tokens the guide knows.
    """

    lm: LanguageModel

    @property
    def vocabulary(self) -> VocabularyMap: ...

    def check(self, config: NablaConfig) -> None:
        """Raises ModelError where this guide cannot serve a config."""

    def look(
        self, tasks: Sequence[Task], lm_memories: Sequence[Memory | None], config: NablaConfig
    ) -> list[Look]:
        """Read each response with LM and guide, from its task's `start` on; books the cost."""

    def rows(
        self, chosen: Sequence[tuple[Any, int]], objective: Objective, logits: Tensor
    ) -> Tensor:
        """Rows g `[n, V]` fp32, of a loss: `g[y] - g[b]` is what b in place of y gains. One for
        each (worth, position); logits `[n, V]` are the LM's there."""

    def row_flops(self, objective: Objective) -> float:
        """Operations that form one row."""


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
        tasks = [Task(r.context, r.response.tokens, r.boundary, _guide_memory(r)) for r in requests]
        looks = self._guide.look(tasks, [r.response.memory for r in requests], config)
        results: list[Result] = []
        for request, task, look in zip(requests, tasks, looks, strict=True):
            gradients = Gradients(
                request.context,
                request.response,
                config,
                look.lm,
                {request.response.tokens: look.worth},
                look.memory,
            )
            results.append(Reply(Swept(look.judged, gradients), task.cost))
        return results

    def _likelihood_only(self, requests: Sequence[Sweep], config: NablaConfig) -> list[Result]:
        tasks = [
            Task(r.context, r.response.tokens, r.boundary, r.response.memory) for r in requests
        ]
        results: list[Result] = []
        lm_reads = read_lm(self._guide.lm, tasks, gradient=False)
        for request, task, lm in zip(requests, tasks, lm_reads, strict=True):
            task.book(paper_calls=1)
            gradients = Gradients(request.context, request.response, config, lm)
            results.append(Reply(Swept(None, gradients), task.cost))
        return results


def _guide_memory(request: Sweep) -> Memory | None:
    previous: Gradients | None = request.previous
    return previous.guide_memory if previous else None
