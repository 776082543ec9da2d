"""Counterfactuals: what `jobs.counterfactuals` makes of a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nabla_core.engines.base import Engines
from nabla_core.methods.counterfactuals import Explore, Explored, explore
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.requests import RequestGenerator
from nabla_core.types import Identity, Prompt
from pipeline.grading.graders import Verify, grader
from pipeline.run.models import identities, open_engines
from pipeline.tables.counterfactual_totals import COLUMNS, summarise
from pipeline.tables.counterfactuals import COUNTERFACTUALS, explored_columns
from pipeline.tables.traces import model_columns, prompt_columns


@dataclass(frozen=True, kw_only=True)
class CounterfactualRecipe:
    """Counterfactuals: the recipe of `jobs.counterfactuals`. The fields are its settings."""

    lm: LM
    reward: Reward
    explore: Explore
    runtime: Runtime
    verify: Verify
    max_tokens: int
    seed: int
    config_hash: str

    @property
    def schema(self) -> pa.Schema:
        return COUNTERFACTUALS

    @property
    def summary_columns(self) -> tuple[str, ...]:
        return COLUMNS

    def summarise(self, tables: Iterable[pa.Table]) -> dict[str, Any]:
        return summarise(tables)

    def models(self) -> dict[str, Identity]:
        return identities(self.lm, self.reward)

    def open(self) -> CounterfactualMaker:
        engines = open_engines(self.lm, self.reward, self.runtime)
        # An error of `open` ends the run; later it would fail prompt by prompt.
        engines.check_sampling(self.explore.tail)
        return CounterfactualMaker(self, engines)


class CounterfactualMaker:
    """Explores prompts in a worker; see `pipeline.run.recipe.Maker`."""

    def __init__(self, recipe: CounterfactualRecipe, engines: Engines) -> None:
        self.engines = engines
        self._recipe = recipe
        self._grade = grader(recipe.verify)
        # The columns that are equal in all rows of a run.
        self._constant = {
            "seed": recipe.seed,
            "config_hash": recipe.config_hash,
            "scorer": recipe.explore.scorer,
            **model_columns(engines.identities, generation="lm", judge="judge"),
            # Token ids have a meaning with this tokenizer only; guide training compares it.
            "tokenizer_fingerprint": engines.identities["tokenizer"].revision,
        }

    def flow(self, prompt: Prompt) -> RequestGenerator[Explored]:
        recipe = self._recipe
        return explore(
            prompt, recipe.explore, self._is_right, seed=recipe.seed, max_tokens=recipe.max_tokens
        )

    def row(self, prompt: Prompt, result: Explored) -> dict[str, Any]:
        return {**self._constant, **prompt_columns(prompt), **explored_columns(result)}

    def dead(self, prompt: Prompt) -> dict[str, Any]:
        return {**self._constant, **prompt_columns(prompt)}

    def numbers(self, row: Mapping[str, Any]) -> dict[str, float]:
        return {"places": float(len(row["places"]))}

    def _is_right(self, prompt: Prompt, response: str) -> bool | None:
        return self._grade(prompt, response).correct
