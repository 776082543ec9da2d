"""What head and value head share: guides that predict advantages, and take no gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nabla_core.config import NablaConfig, Objective, Sampling
from nabla_core.errors import ModelError
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.loading import LanguageModel
from nabla_core.models.readers import LMRead, Task, check_finite, read_lm


def require_no_gradient(source: str, config: NablaConfig) -> None:
    """Raises ModelError where a config needs a gradient, and its guide is a head or value head
    `source`."""
    if config.needs_gradient:
        raise ModelError(
            f"reward.guide {source} is a head: it predicts advantages and has no gradient, which "
            "proposals: left_to_right with dto.optimizer: adam needs; use proposals: ranked, or "
            "dto.optimizer: mirror"
        )


class PredictedAdvantages:
    """The part of a guide (`guides.base.Guide`, `guides.decoding.DecodingGuide`) that does not
    depend on where its advantages come from. `source` names it in errors."""

    judges = False

    def __init__(self, lm: LanguageModel, source: str) -> None:
        self.lm = lm
        self._source = source

    def check(self, config: NablaConfig) -> None:
        """Raises ModelError where a config needs a gradient."""
        require_no_gradient(self._source, config)

    def check_sampling(self, sampling: Sampling) -> None:
        """What predicts advantages guides every sampling."""

    def next_flops(self) -> float:
        """Floating-point operations of the advantages at one position."""
        raise NotImplementedError

    def row_flops(self, objective: Objective) -> float:
        return self.next_flops()

    def _read_lm(
        self, tasks: Sequence[Task], caches: Sequence[PrefixCache | None], config: NablaConfig
    ) -> list[LMRead]:
        """Read each response with the LM, without a gradient. Adds the cost to the task."""
        self.check(config)
        lm_tasks = [
            Task(t.context, t.tokens, t.start, cache)
            for t, cache in zip(tasks, caches, strict=True)
        ]
        with torch.no_grad():
            reads = read_lm(self.lm, lm_tasks, gradient=False)
        for task, lm_task in zip(tasks, lm_tasks, strict=True):
            task.cost += lm_task.cost
            task.add_cost(paper_calls=1)
        return reads


def loss_rows(advantages: Tensor, objective: Objective) -> Tensor:
    """`-reward_coeff * A`: rows of a loss, like those of a gradient. `nll_coeff` does not matter:
    what predicts advantages knows nothing of the likelihood. Raises NonFiniteError."""
    check_finite("predicted advantage", advantages)
    return -objective.reward_coeff * advantages
