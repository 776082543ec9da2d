"""Refined traces: what `jobs.generate` makes of a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nabla_core.config import Decoding
from nabla_core.engines.base import Engines
from nabla_core.methods.dispatch import flow
from nabla_core.methods.ggro import SWEEP
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.requests import Flow
from nabla_core.types import Identity, Prompt, Trace
from pipeline.grading.extraction import final_answer
from pipeline.grading.graders import Grader, Verify, grader
from pipeline.grading.math_verify import MathGrader
from pipeline.run.models import identities, open_engines
from pipeline.run.recipe import Maker
from pipeline.store.settings import Candidates
from pipeline.tables import yield_counter
from pipeline.tables.trace_totals import COLUMNS, Summary
from pipeline.tables.traces import TRACES, model_columns, prompt_columns, trace_columns
from pipeline.tables.yield_counter import YieldCounter


@dataclass(frozen=True, kw_only=True)
class TraceRecipe:
    """Refined traces: the recipe of `jobs.generate`."""

    lm: LM
    reward: Reward
    decoding: Decoding
    runtime: Runtime
    verify: Verify
    candidates: Candidates = "all"
    seed: int
    config_hash: str

    @property
    def schema(self) -> pa.Schema:
        return TRACES

    @property
    def summary_columns(self) -> tuple[str, ...]:
        return tuple({*COLUMNS, *yield_counter.COLUMNS})

    def summarise(self, tables: Iterable[pa.Table]) -> dict[str, Any]:
        drawn = self.decoding.rollout
        greedy = self.decoding.method == "nabla" and drawn.temperature == 0 and drawn.beta is None
        counter = YieldCounter(greedy_first=greedy)
        totals = Summary.of(counter.counting(tables)).as_dict()
        return {**totals, "yield": counter.as_dict()}

    def models(self) -> dict[str, Identity]:
        return identities(self.lm, self.reward)

    def open(self) -> Maker:
        engines = open_engines(self.lm, self.reward, self.runtime)
        # An error of `open` ends the run; later it would fail prompt by prompt.
        engines.check_sampling(self.decoding.rollout)
        if self.decoding.method == "nabla":
            engines.check(self.decoding.nabla)
        elif self.decoding.method == "ggro":
            engines.check(SWEEP)
        return TraceMaker(self, engines)


class TraceMaker:
    """See `TraceRecipe`."""

    def __init__(self, recipe: TraceRecipe, engines: Engines) -> None:
        self.engines = engines
        self._recipe = recipe
        self._grade: Grader = grader(recipe.verify)
        # Votes are counted by the equality that answers are graded by.
        self._votes: dict[str, Any] = (
            {"answer": final_answer, "same": self._grade.same}
            if isinstance(self._grade, MathGrader)
            else {}
        )
        # The columns that are equal in all rows of a run.
        self._constant = {
            "method": recipe.decoding.method,
            "seed": recipe.seed,
            "config_hash": recipe.config_hash,
            **model_columns(engines.identities, generation="lm", judge="judge", guide="guide"),
            # Token ids have a meaning with this tokenizer only.
            "tokenizer_fingerprint": engines.identities["tokenizer"].revision,
        }

    def flow(self, prompt: Prompt) -> Flow:
        recipe = self._recipe
        judged = recipe.reward.judge is not None
        return flow(prompt, recipe.decoding, seed=recipe.seed, judged=judged, **self._votes)

    def row(self, prompt: Prompt, result: Trace) -> dict[str, Any]:
        after = self._grade(prompt, result.text)
        # Graded once if nothing was changed: a grade can take seconds (`Verify.seconds`).
        before = after if result.base_text == result.text else self._grade(prompt, result.base_text)
        return {
            **self._constant,
            **prompt_columns(prompt),
            **trace_columns(prompt, result, self._recipe.candidates),
            "predicted_answer": after.predicted,
            "correct": after.correct,
            "base_correct": before.correct,
        }

    def dead(self, prompt: Prompt) -> dict[str, Any]:
        return {**self._constant, **prompt_columns(prompt)}

    def numbers(self, row: Mapping[str, Any]) -> dict[str, float]:
        numbers = {
            "proposed": len(row["revisions"]),
            "accepted": len([r for r in row["revisions"] if r["accepted"]]),
            "reward": row["reward"],
            "base_reward": row["base_reward"],
            "correct": row["correct"],
            "base_correct": row["base_correct"],
        }
        # None: the prompt has no answer, or the method no reward.
        return {name: float(value) for name, value in numbers.items() if value is not None}
