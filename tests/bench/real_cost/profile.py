"""Where the time of a ranked search goes, for `tests.bench.real_cost`."""

from __future__ import annotations

import cProfile
import pstats
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from nabla_core import Decoding, NablaConfig, Prompt, Ranked, drive, flow
from nabla_core.engines.base import Engine, Engines
from tests.bench.arms import GREEDY
from tests.bench.real_cost import models as real_models
from tests.bench.real_cost.models import Models
from tests.bench.real_cost.timing import Plan, Row, seconds


class _Timed:
    """An engine whose steps are timed."""

    def __init__(self, engine: Engine, device: str) -> None:
        self.engine, self.device, self.spent = engine, device, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def step(self) -> Any:
        spent, result = seconds(self.engine.step, self.device)
        self.spent += spent
        return result


def search_profile(models: Models, plan: Plan) -> Iterator[Row]:
    """A ranked search: the share of each engine in its time, and functions by their own time."""
    engines = models.engines(device=plan.device)
    timed = [_Timed(engine, plan.device) for engine in engines.engines]
    wrapped = Engines(*timed)
    ranked = NablaConfig(proposals="ranked", ranked=Ranked(), rollout=GREEDY)
    decoding = Decoding("nabla", plan.limit, nabla=replace(ranked, max_rollouts=8))
    asked: list[Prompt] = real_models.prompts(2 * plan.prompts)
    profile = cProfile.Profile(time.process_time)

    def work() -> None:
        profile.enable()
        list(drive((flow(p, decoding) for p in asked), wrapped))
        profile.disable()

    spent, _ = seconds(work, plan.device)
    yield Row("search", spent, {"unit": "s", "prompts": len(asked)})
    for one in timed:
        name = type(one.engine).__name__.removesuffix("Engine")
        yield Row(f"  {name}", one.spent / spent, {"unit": "of the search"})
    stats: Any = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    own = sorted(((s[2], f"{Path(f).name}:{name}") for (f, _, name), s in stats.items()))[-12:]
    shares = {name: f"{own_time / spent:.1%}" for own_time, name in reversed(own)}
    yield Row("  functions", sum(t for t, _ in own) / spent, shares)
