"""The gradient guide: advantages to first order, from one backward pass of LM and reward model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nabla_core.config import NablaConfig, Objective, Sampling
from nabla_core.guides.base import GuideRead, rows_of
from nabla_core.guides.decoding import refuse_decoding
from nabla_core.models.forward import BLOCK
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.loading import LanguageModel, RewardModel
from nabla_core.models.readers import LMRead, Reader, RMRead, Task, check_finite, read_lm
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import Judged


@dataclass(eq=False)
class GradientState:
    """Gradients with respect to the input embeddings of one hard sequence, from `start` on.

    `lm` `[T-start, D]`: of its log-likelihood; None where that has no weight in the objective.
    `rm` `[T-start, D_rm]`: of its reward.
    """

    start: int
    lm: Tensor | None
    rm: Tensor


class GradientGuide:
    """An LM and a reward model whose gradients are taken together. See `guides.base.Guide`.

    `judges`: the reward model is the judge too. `return_cache`: keep prefix caches for later
    sweeps. `checkpoint`: see `Runtime.gradient_checkpointing`.
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
        # Checkpointed passes keep no keys and values.
        self._return_cache = return_cache and not checkpoint
        self._checkpoint = checkpoint

    @property
    def vocabulary(self) -> VocabularyMap:
        return self.reader.vocabulary

    def check(self, config: NablaConfig) -> None:
        """A gradient guide serves every config but one with guided rollouts. Raises ModelError."""
        self.check_sampling(config.rollout)

    def check_sampling(self, sampling: Sampling) -> None:
        """Raises ModelError where a sampling has a `beta`."""
        refuse_decoding(self.reader.rm.source, sampling)

    def read(
        self, tasks: Sequence[Task], lm_caches: Sequence[PrefixCache | None], config: NablaConfig
    ) -> list[GuideRead]:
        lm_reads, rm_reads = self.input_gradients(tasks, lm_caches, config)
        reads = []
        for lm, rm in zip(lm_reads, rm_reads, strict=True):
            assert rm.input_gradient is not None
            # The forward pass gave the reward: a response is never scored twice.
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
        lm_backward = config.objective.nll_coeff != 0
        # Recomputed layers cannot continue from a cache: they read the whole sequence.
        whole = self._checkpoint
        lm_tasks = [
            Task(t.context, t.tokens, t.start, None if lm_backward and whole else cache)
            for t, cache in zip(tasks, lm_caches, strict=True)
        ]
        lm_reads = read_lm(self.lm, lm_tasks, gradient=lm_backward, checkpoint=whole)
        frames = [t.context.guide for t in tasks]
        rm_reads = self.reader.read(
            tasks, frames, gradient=True, return_cache=self._return_cache, checkpoint=whole
        )
        for task, lm_task in zip(tasks, lm_tasks, strict=True):
            # The LM reads the response as a task of its own, with its own cache.
            task.cost += lm_task.cost
            task.add_cost(paper_calls=4)  # the paper counts a gradient step as 4
        return lm_reads, rm_reads

    def rows(
        self, chosen: Sequence[tuple[GradientState, int]], objective: Objective, logits: Tensor
    ) -> Tensor:
        places = [(s, i - s.start) for s, i in chosen]
        rm = rows_of([(s.rm, i) for s, i in places])
        lm = None
        if chosen[0][0].lm is not None:
            lm = rows_of([(s.lm, i) for s, i in places if s.lm is not None])
        return gradient_rows(self.lm, self.reader, objective, rm, lm, logits)

    def row_flops(self, objective: Objective) -> float:
        """A product with each embedding table that has a weight in the objective."""
        likelihood = self.lm.table.numel() if objective.nll_coeff else 0
        return 2.0 * (self.reader.rm.table.numel() + likelihood)


def gradient_rows(
    lm: LanguageModel,
    reader: Reader,
    objective: Objective,
    rm_gradient: Tensor,
    lm_gradient: Tensor | None,
    logits: Tensor,
) -> Tensor:
    """Gradient rows g_j, fp32 `[n, V]`; the formula is in `models.readers`.

    rm_gradient `[n, D_rm]` and lm_gradient `[n, D]` (or None) are with respect to the input
    embeddings; logits `[n, V]` predicted the tokens. Ids that are no LM token have no likelihood
    term; they are never proposed. Raises NonFiniteError.
    """
    # From embeddings to tokens, then from the reward model's vocabulary to the LM's.
    rows = objective.reward_coeff * _products(reader.rm, rm_gradient)[:, reader.ids]
    if objective.nll_coeff:
        assert lm_gradient is not None
        # The one-hot of token j enters the likelihood twice: through its embedding, which all later
        # terms see, and directly, as it selects log p(y_j) in its own term. An id that is no token
        # has logit -inf; 0 keeps the row finite.
        direct = logits.log_softmax(-1).masked_fill(logits == float("-inf"), 0.0)
        rows = rows + objective.nll_coeff * (_products(lm, lm_gradient) + direct)
    check_finite("gradient row", rows)
    # Rows of the loss, which is the negative of the objective.
    return -rows


def _products(model: LanguageModel | RewardModel, gradient: Tensor) -> Tensor:
    """From gradients with respect to input embeddings `[n, D]` to those with respect to one-hots
    `[n, V]`, in fp32. The table is cast a block of the vocabulary at a time: an fp32 copy of a
    whole bf16 table would take twice its memory."""
    table = model.table
    rows = max(1, BLOCK // table.size(1))
    products = torch.cat([gradient @ part.float().T for part in table.split(rows)], -1)
    return products if model.embedding_scale == 1.0 else products * model.embedding_scale
