"""`jobs.tune` as a plan: every candidate setting on every validation prompt, one run.

A row is a trace, and its `sample` column the number of the candidate that made it; draws are
those of sample 0 throughout, so candidates differ in nothing but their settings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product

from nabla_core.config import Decoding
from nabla_core.engines.base import Engines
from nabla_core.methods.dispatch import flow
from nabla_core.requests import Flow
from nabla_core.types import Prompt
from pipeline.generate.recipe import TraceMaker, TraceRecipe
from pipeline.run.driver import execute
from pipeline.run.models import open_engines
from pipeline.run.plan import Outcome, Plan, Watcher, planned
from pipeline.tune.config import Grid, TuneConfig


@dataclass(frozen=True)
class Candidate:
    """One setting: the overrides that make it, and the decoding they make."""

    overrides: tuple[tuple[str, float | None], ...]
    decoding: Decoding
    gradient: bool

    @property
    def name(self) -> str:
        return " ".join(
            f"{key.rpartition('.')[2]}={_shown(value)}" for key, value in self.overrides
        )


def candidates(decoding: Decoding, grid: Grid) -> list[Candidate]:
    """Every setting to try, those without a gradient first."""
    nabla = decoding.nabla
    found = []
    if nabla.proposals == "ranked":
        # The largest beta first: from no guide to the one that is followed most closely.
        betas = (None, *sorted(set(grid.beta), reverse=True))
        for beta, score, weight in product(betas, grid.min_score, grid.reward_weight):
            ranked = replace(nabla.ranked, beta=beta, min_score=score, reward_weight=weight)
            given = {"beta": beta, "min_score": score, "reward_weight": weight}
            keys = tuple((f"decoding.nabla.ranked.{name}", v) for name, v in given.items())
            changed = replace(decoding, nabla=replace(nabla, ranked=ranked))
            found.append(Candidate(keys, changed, beta is not None))
        return found
    if nabla.dto.optimizer == "mirror":  # has no rate
        steps = [
            ("beta", b, replace(nabla.dto, beta=b), b != math.inf)
            for b in sorted({math.inf, *grid.beta}, reverse=True)
        ]
    else:
        rates = sorted({0.0, *grid.learning_rate})
        steps = [("learning_rate", r, replace(nabla.dto, learning_rate=r), r != 0) for r in rates]
    for name, value, dto, gradient in steps:
        changed = replace(decoding, nabla=replace(nabla, dto=dto))
        found.append(Candidate(((f"decoding.nabla.dto.{name}", value),), changed, gradient))
    return found


def _shown(value: float | None) -> str:
    return "null" if value is None else f"{value:g}"


@dataclass(frozen=True, kw_only=True)
class TuneRecipe(TraceRecipe):
    """Traces whose decoding is chosen by the sample number."""

    decodings: tuple[Decoding, ...] = ()

    def open(self) -> TuneMaker:
        engines = open_engines(self.lm, self.reward, self.runtime)
        engines.check(self.decoding.nabla)
        return TuneMaker(self, engines)


class TuneMaker(TraceMaker):
    """See `TuneRecipe`."""

    def __init__(self, recipe: TuneRecipe, engines: Engines) -> None:
        super().__init__(recipe, engines)
        self._decodings = recipe.decodings
        self._seed = recipe.seed

    def flow(self, prompt: Prompt) -> Flow:
        decoding = self._decodings[prompt.sample]
        return flow(replace(prompt, sample=0), decoding, seed=self._seed)


def tune(config: TuneConfig, watcher: Watcher) -> Outcome:
    """Try every candidate on every prompt; resumes. Raises PipelineError."""
    return execute(plan(config), watcher)


def plan(config: TuneConfig) -> Plan:
    """What `tune` will do. Reads nothing yet."""
    tried = candidates(config.decoding, config.grid)

    def recipe(config_hash: str) -> TuneRecipe:
        return TuneRecipe(
            lm=config.lm,
            reward=config.reward,
            decoding=config.decoding,
            runtime=config.runtime,
            verify=config.verify,
            seed=config.seed,
            config_hash=config_hash,
            decodings=tuple(candidate.decoding for candidate in tried),
        )

    return planned(config, recipe, samples=len(tried))
