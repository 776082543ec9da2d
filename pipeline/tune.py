"""`jobs.tune` as a plan: every candidate setting on every validation prompt, one run.

A row is a trace, and its `sample` column the number of the candidate that made it; draws are
those of sample 0 throughout, so candidates differ in nothing but their settings.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

from nabla_core.config import Decoding
from nabla_core.engines.base import Engines
from nabla_core.methods import flow
from nabla_core.requests import Flow
from nabla_core.types import Prompt
from pipeline.config import RowsConfig
from pipeline.plan import Outcome, Plan, Watcher, planned
from pipeline.recipe import TraceMaker, TraceRecipe, open_engines
from pipeline.run import execute

SHAPING = ("seed", "lm", "reward", "decoding", "engine.device", "engine.dtype", "grid")


@dataclass(frozen=True)
class Grid:
    """The values to try: `eta`, `stop` and `trust` of ranked proposals, `learning_rate` of left
    to right.

    No gradient at all (`eta` 0, `learning_rate` 0) is always among them, so that a guide that
    does not pay is found out.
    """

    eta: tuple[float, ...] = (0.5, 1.0, 2.0)
    stop: tuple[float, ...] = (-4.0, -3.0, -2.0)
    trust: tuple[float, ...] = (0.0, 1.0, 2.0)
    learning_rate: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class TuneConfig(RowsConfig):
    """One run of `jobs.tune`: a generate config whose `decoding` is varied over `grid`."""

    run_dir: str = "runs/tune"
    decoding: Decoding = field(default_factory=Decoding)
    grid: Grid = field(default_factory=Grid)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoding.method != "nabla":
            raise ValueError(f"jobs.tune tunes nabla, not decoding.method={self.decoding.method}")
        if self.decoding.nabla.proposals not in ("ranked", "left_to_right"):
            raise ValueError(
                f"decoding.nabla.proposals={self.decoding.nabla.proposals} has nothing to tune"
            )


@dataclass(frozen=True)
class Candidate:
    """One setting: the overrides that make it, and the decoding they make."""

    overrides: tuple[tuple[str, float], ...]
    decoding: Decoding
    gradient: bool

    @property
    def name(self) -> str:
        return " ".join(f"{key.rpartition('.')[2]}={value:g}" for key, value in self.overrides)


def candidates(decoding: Decoding, grid: Grid) -> list[Candidate]:
    """Every setting to try, those without a gradient first."""
    nabla = decoding.nabla
    found = []
    if nabla.proposals == "ranked":
        for eta, stop, trust in product(sorted({0.0, *grid.eta}), grid.stop, grid.trust):
            ranked = replace(nabla.ranked, eta=eta, stop=stop, trust=trust)
            given = {"eta": eta, "stop": stop, "trust": trust}
            keys = tuple((f"decoding.nabla.ranked.{name}", v) for name, v in given.items())
            found.append(
                Candidate(keys, replace(decoding, nabla=replace(nabla, ranked=ranked)), eta != 0)
            )
        return found
    for rate in sorted({0.0, *grid.learning_rate}):
        changed = replace(nabla, dto=replace(nabla.dto, learning_rate=rate))
        key = ("decoding.nabla.dto.learning_rate", rate)
        found.append(Candidate((key,), replace(decoding, nabla=changed), rate != 0))
    return found


@dataclass(frozen=True)
class TuneRecipe(TraceRecipe):
    """Traces whose decoding is chosen by the sample number."""

    decodings: tuple[Decoding, ...] = ()

    def open(self) -> TuneMaker:
        engines = open_engines(self.lm, self.reward, self.engine)
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
            config.lm,
            config.reward,
            config.decoding,
            config.engine,
            config.verify,
            config.seed,
            config_hash,
            tuple(c.decoding for c in tried),
        )

    return planned(config, SHAPING, recipe, samples=len(tried))
