"""The gradient guide: what a replacement is worth, to first order, from one backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nabla_core.config import NablaConfig, Objective
from nabla_core.guides.base import GuideRead
from nabla_core.models.forward import BLOCK
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.loading import LanguageModel
from nabla_core.models.readers import LMRead, Reader, RMRead, Task, check_finite, read_lm
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import Judged


@dataclass(eq=False)
class GradientState:
    """Gradients of one hard sequence at positions from `start` on: `lm` `[T-start, D]` of its
    log-likelihood (None where that has no weight), `rm` `[T-start, D_rm]` of its reward."""

    start: int
    lm: Tensor | None
    rm: Tensor


class GradientGuide:
    """An LM and a reward model, swept together. See `sweeps.Guide`.

    `return_cache`: leave caches for later sweeps. `checkpoint`: see `config.Runtime`.
    """

    def __init__(
        self,
        lm: LanguageModel,
        reader: Reader,
        *,
        judges: bool,
        return_cache: bool,
        checkpoint: bool = False,
    ) -> None:
        self.lm = lm
        self.reader = reader
        self.judges = judges
        self._return_cache = return_cache and not checkpoint
        self._checkpoint = checkpoint

    @property
    def vocabulary(self) -> VocabularyMap:
        return self.reader.vocabulary

    def check(self, config: NablaConfig) -> None:
        """A gradient serves every way of proposing."""

    def read(
        self, tasks: Sequence[Task], lm_caches: Sequence[PrefixCache | None], config: NablaConfig
    ) -> list[GuideRead]:
        lm_reads, rm_reads = self.input_gradients(tasks, lm_caches, config)
        reads = []
        for lm, rm in zip(lm_reads, rm_reads, strict=True):
            assert rm.input_gradient is not None
            judged = Judged(rm.reward, rm.cache) if self.judges else None
            reads.append(
                GuideRead(
                    lm,
                    GradientState(lm.start, lm.input_gradient, rm.input_gradient),
                    rm.cache,
                    judged,
                )
            )
        return reads

    def input_gradients(
        self, tasks: Sequence[Task], lm_caches: Sequence[PrefixCache | None], config: NablaConfig
    ) -> tuple[list[LMRead], list[RMRead]]:
        """One forward and backward pass of both models over each response. The LM's backward
        pass is left out where the likelihood has no weight in the objective."""
        slope = config.objective.nll_coeff != 0
        whole = self._checkpoint
        lm_tasks = [
            Task(t.context, t.tokens, t.start, None if slope and whole else cache)
            for t, cache in zip(tasks, lm_caches, strict=True)
        ]
        lm_reads = read_lm(self.lm, lm_tasks, gradient=slope, checkpoint=whole)
        frames = [t.context.guide for t in tasks]
        rm_reads = self.reader.read(
            tasks, frames, gradient=True, return_cache=self._return_cache, checkpoint=whole
        )
        for task, lm_task in zip(tasks, lm_tasks, strict=True):
            task.cost += lm_task.cost
            task.add_cost(paper_calls=4)
        return lm_reads, rm_reads

    def rows(
        self, chosen: Sequence[tuple[GradientState, int]], objective: Objective, logits: Tensor
    ) -> Tensor:
        rm = torch.stack([s.rm[i - s.start] for s, i in chosen])
        lm = None
        if chosen[0][0].lm is not None:
            lm = torch.stack([s.lm[i - s.start] for s, i in chosen if s.lm is not None])
        return gradient_rows(self.lm, self.reader, objective, rm, lm, logits)

    def row_flops(self, objective: Objective) -> float:
        """A product with each table that has a say."""
        likelihood = self.lm.table.numel() if objective.nll_coeff else 0
        return 2.0 * (self.reader.rm.table.numel() + likelihood)


def gradient_rows(
    lm: LanguageModel,
    reader: Reader,
    objective: Objective,
    rm_slopes: Tensor,
    lm_slopes: Tensor | None,
    logits: Tensor,
) -> Tensor:
    """Rows g_j, fp32 `[n, V]`.

    rm_slopes `[n, D_rm]`, lm_slopes `[n, D]` or None, logits `[n, V]` that predicted the
    tokens. Tables are multiplied a block of the vocabulary at a time, in fp32. Entries of
    ids that are no LM token carry no likelihood term; they are never proposed.
    """
    rows = objective.reward_coeff * _products(reader.rm.table, rm_slopes)[:, reader.ids]
    if objective.nll_coeff:
        assert lm_slopes is not None
        direct = logits.log_softmax(-1).masked_fill(logits == float("-inf"), 0.0)
        rows = rows + objective.nll_coeff * (_products(lm.table, lm_slopes) + direct)
    check_finite("gradient row", [rows])
    return -rows


def _products(table: Tensor, slopes: Tensor) -> Tensor:
    rows = max(1, BLOCK // table.size(1))
    return torch.cat([slopes @ part.float().T for part in table.split(rows)], -1)
