"""What a guide is: it reads a response and predicts the advantage of every replacement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from nabla_core.config import NablaConfig, Objective, Sampling
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.loading import LanguageModel
from nabla_core.models.readers import LMRead, Task
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import (
    Context,
    Judged,
    Response,
)


@dataclass(eq=False, kw_only=True)
class Gradients:
    """Everything that is kept of a sweep to make the proposals of one response.

    `guide_states`: what the guide keeps of each hard sequence it has read (the response first,
    others when an argmax moves). `guide_cache`: keys and values, so that later passes over the
    same prefix read only the rest. `plan` belongs to the engine that makes the proposals.
    """

    context: Context
    response: Response
    config: NablaConfig
    lm: LMRead
    guide_states: dict[tuple[int, ...], Any] = field(default_factory=dict)
    guide_cache: PrefixCache | None = None
    plan: Any = None

    @property
    def start(self) -> int:
        return self.lm.start


@dataclass(eq=False)
class GuideRead:
    """One response as LM and guide read it.

    `guide_state` is what `Guide.rows` needs of it, `cache` what a later read may continue from,
    `judged` the reward where the guide is the judge too.
    """

    lm: LMRead
    guide_state: Any
    cache: PrefixCache | None
    judged: Judged | None


class Guide(Protocol):
    """Predicts the advantage of every replacement of every token of a response.

    A `GradientGuide` takes it from a backward pass, to first order; a `HeadGuide` predicts it in
    a forward pass of its own, a `ValueHeadGuide` from the LM's hidden states. `vocabulary` maps the
    LM's tokens to the guide's.
    """

    lm: LanguageModel

    @property
    def vocabulary(self) -> VocabularyMap: ...

    def check(self, config: NablaConfig) -> None:
        """Raises ModelError where this guide cannot serve a config."""

    def check_sampling(self, sampling: Sampling) -> None:
        """Raises ModelError where a sampling is guided (`beta`), and this guide cannot decode."""

    def read(
        self, tasks: Sequence[Task], lm_caches: Sequence[PrefixCache | None], config: NablaConfig
    ) -> list[GuideRead]:
        """Read each response with LM and guide, from its task's `start` on. Adds the cost to the
        task. Raises PromptError."""

    def rows(
        self, chosen: Sequence[tuple[Any, int]], objective: Objective, logits: Tensor
    ) -> Tensor:
        """Gradient rows g of the loss, fp32 `[n, V]`, one for each (guide state, position).

        The advantage of b in place of y is `g[y] - g[b]`, in units of the objective. logits
        `[n, V]` are the LM's at these positions.
        """

    def row_flops(self, objective: Objective) -> float:
        """Floating-point operations that form one row."""


def rows_of(places: Sequence[tuple[Tensor, int]]) -> Tensor:
    """One row `[D]` of each given tensor `[T, D]`, as `[n, D]`."""
    # One selection for each run of rows of the same tensor, not one for each row.
    runs: list[tuple[Tensor, list[int]]] = []
    for tensor, row in places:
        if runs and runs[-1][0] is tensor:
            runs[-1][1].append(row)
        else:
            runs.append((tensor, [row]))
    return torch.cat([tensor[rows] for tensor, rows in runs])
