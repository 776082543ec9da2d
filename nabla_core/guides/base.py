"""What a guide is: tokens in, the worth of every replacement out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from nabla_core.config import NablaConfig, Objective
from nabla_core.models.kv_cache import PrefixCache
from nabla_core.models.loading import LanguageModel
from nabla_core.models.readers import LMRead, Task
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import (
    Context,
    Judged,
    Response,
)


@dataclass(eq=False)
class Gradients:
    """Everything a sweep leaves behind for the proposals of one response.

    `guide_states` maps hard sequences to what the guide made of them: the response itself first,
    others as argmax flips ask for them. `guide_cache` lets later passes over the same prefix
    start late. `plan` is the proposing engine's own.
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
    """What a guide makes of one response: the LM's reading, the guide's own `guide_state` (what
    `Guide.rows` wants back), a cache for later reads, and the reward where it judges."""

    lm: LMRead
    guide_state: Any
    cache: PrefixCache | None
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

    def read(
        self, tasks: Sequence[Task], lm_caches: Sequence[PrefixCache | None], config: NablaConfig
    ) -> list[GuideRead]:
        """Read each response with LM and guide, from its task's `start` on; books the cost."""

    def rows(
        self, chosen: Sequence[tuple[Any, int]], objective: Objective, logits: Tensor
    ) -> Tensor:
        """Rows g `[n, V]` fp32, of a loss: `g[y] - g[b]` is what b in place of y gains. One for
        each (state, position); logits `[n, V]` are the LM's there."""

    def row_flops(self, objective: Objective) -> float:
        """Operations that form one row."""
