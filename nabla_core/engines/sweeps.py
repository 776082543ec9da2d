"""Sweeps and scores: a response in, what LM, guide and judge make of it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nabla_core.config import NablaConfig
from nabla_core.engines.base import BatchEngine, Reply, Result
from nabla_core.engines.guide import LMRead, Reader, RMRead, Task, read_lm
from nabla_core.engines.memory import Memory
from nabla_core.models import LanguageModel
from nabla_core.requests import Context, Judged, Request, Response, Score, Sweep, Swept


@dataclass(eq=False)
class Slopes:
    """Gradients of one hard sequence at positions from `start` on: `lm` `[T-start, D]` of its
    log-likelihood (None where that has no weight), `rm` `[T-start, D_rm]` of its reward."""

    start: int
    lm: Tensor | None
    rm: Tensor


@dataclass(eq=False)
class Gradients:
    """Everything a sweep leaves behind for the proposals of one response.

    `slopes` maps hard sequences to their gradients: the response itself first, others as
    argmax flips ask for them. `lm_memory` and `guide_memory` let later passes over the same
    prefix start late. `plan` is the proposing engine's own.
    """

    context: Context
    response: Response
    config: NablaConfig
    lm: LMRead
    slopes: dict[tuple[int, ...], Slopes] = field(default_factory=dict)
    guide_memory: Memory | None = None
    plan: Any = None

    @property
    def start(self) -> int:
        return self.lm.start


class Guide:
    """The gradient guide of one process: an LM and a reward model, swept together.

    `keep`: leave memories for later sweeps. `checkpoint`: see `config.Engine`.
    """

    def __init__(
        self,
        lm: LanguageModel,
        reader: Reader,
        *,
        judges: bool,
        keep: bool,
        checkpoint: bool = False,
    ) -> None:
        self.lm = lm
        self.reader = reader
        self.judges = judges
        self._keep = keep and not checkpoint
        self._checkpoint = checkpoint

    def slopes(
        self, tasks: Sequence[Task], lm_memories: Sequence[Memory | None], config: NablaConfig
    ) -> tuple[list[LMRead], list[RMRead]]:
        """One forward and backward pass of both models over each response. The LM's backward
        pass is left out where the likelihood has no weight in the objective."""
        slope = config.objective.nll_coeff != 0
        whole = self._checkpoint
        lm_tasks = [
            Task(t.context, t.tokens, t.start, None if slope and whole else memory)
            for t, memory in zip(tasks, lm_memories, strict=True)
        ]
        lm_reads = read_lm(self.lm, lm_tasks, gradient=slope, checkpoint=whole)
        frames = [t.context.guide for t in tasks]
        rm_reads = self.reader.read(tasks, frames, gradient=True, keep=self._keep, checkpoint=whole)
        for task, lm_task in zip(tasks, lm_tasks, strict=True):
            task.cost += lm_task.cost
            task.book(paper_calls=4)
        return lm_reads, rm_reads


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
            sweep = self._with_gradient if config.takes_gradient else self._likelihood_only
            answers = sweep([requests[i] for i in members], config)
            results.update(zip(members, answers, strict=True))
        return [results[i] for i in range(len(requests))]

    def _with_gradient(self, requests: Sequence[Sweep], config: NablaConfig) -> list[Result]:
        tasks = [Task(r.context, r.response.tokens, r.boundary, _guide_memory(r)) for r in requests]
        memories = [r.response.memory for r in requests]
        lm_reads, rm_reads = self._guide.slopes(tasks, memories, config)
        results: list[Result] = []
        for request, task, lm, rm in zip(requests, tasks, lm_reads, rm_reads, strict=True):
            assert rm.slope is not None
            slopes = Slopes(request.boundary, lm.slope, rm.slope)
            gradients = Gradients(
                request.context,
                request.response,
                config,
                lm,
                {request.response.tokens: slopes},
                rm.memory,
            )
            judged = Judged(rm.reward, rm.memory) if self._guide.judges else None
            results.append(Reply(Swept(judged, _total(lm), gradients), task.cost))
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
            results.append(Reply(Swept(None, _total(lm), gradients), task.cost))
        return results


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


def _guide_memory(request: Sweep) -> Memory | None:
    previous: Gradients | None = request.previous
    return previous.guide_memory if previous else None


def _total(lm: LMRead) -> float:
    """log p of the tokens from the boundary on."""
    return float(lm.says.log_probability.double().sum())
