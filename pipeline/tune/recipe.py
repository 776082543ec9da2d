"""Traces of many candidates: what `jobs.tune` makes of a prompt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from nabla_core.config import Decoding
from nabla_core.engines.base import Engines
from nabla_core.methods.dispatch import flow
from nabla_core.requests import Flow
from nabla_core.types import Prompt
from pipeline.generate.recipe import TraceMaker, TraceRecipe
from pipeline.run.models import open_engines
from pipeline.tables.trace_totals import Summary


@dataclass(frozen=True, kw_only=True)
class TuneRecipe(TraceRecipe):
    """Traces; sample number n is decoded with the n-th of `decodings`."""

    decodings: tuple[Decoding, ...] = ()

    def summarise(self, tables: Iterable[pa.Table]) -> dict[str, Any]:
        # The rows of a prompt are of different methods: they have no yield together.
        return Summary.of(tables).as_dict()

    def open(self) -> TuneMaker:
        engines = open_engines(self.lm, self.reward, self.runtime)
        engines.check_sampling(self.decoding.rollout)
        if self.decoding.method == "nabla":
            engines.check(self.decoding.nabla)
        return TuneMaker(self, engines)


class TuneMaker(TraceMaker):
    """Makes traces in a worker; see `TuneRecipe`."""

    def __init__(self, recipe: TuneRecipe, engines: Engines) -> None:
        super().__init__(recipe, engines)
        self._decodings = recipe.decodings
        self._seed = recipe.seed

    def flow(self, prompt: Prompt) -> Flow:
        decoding = self._decodings[prompt.sample]
        # All candidates use the draws of sample 0, so they differ in their settings alone.
        return flow(replace(prompt, sample=0), decoding, seed=self._seed)
