"""What a run makes of a prompt. The Ray path and the store know nothing else of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from nabla_core.config import Decoding
from nabla_core.engines.base import Engines
from nabla_core.errors import ModelError
from nabla_core.methods.dispatch import flow
from nabla_core.model_config import LM, Engine, Reward
from nabla_core.models.templates import render_for_lm
from nabla_core.requests import Asking, Flow
from nabla_core.types import Prompt, Trace
from pipeline.grading.graders import Grader, Verify, grader
from pipeline.tables.trace_totals import COLUMNS, Summary
from pipeline.tables.traces import TRACES, model_columns, prompt_columns, trace_columns


class Maker(Protocol):
    """Lives in a worker: engines, and the way from a prompt to the columns of a row."""

    @property
    def engines(self) -> Engines: ...

    def flow(self, prompt: Prompt) -> Asking[Any]:
        """The generator that works on the prompt."""

    def row(self, prompt: Prompt, result: Any) -> dict[str, Any]:
        """The columns of a finished row, the store's own left out."""

    def dead(self, prompt: Prompt) -> dict[str, Any]:
        """The same for a prompt that failed: what was asked, nothing that was answered."""

    def numbers(self, row: Mapping[str, Any]) -> dict[str, float]:
        """What the driver is told of a row, for progress."""


class Recipe(Protocol):
    """Settings that travel to the workers and become a `Maker` there."""

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def totals(self) -> tuple[str, ...]:
        """The columns `summarise` reads."""

    def open(self) -> Maker:
        """Load the models. Raises ModelError."""

    def summarise(self, tables: Iterable[pa.Table]) -> dict[str, Any]:
        """Totals of a run from its committed rows, for the manifest; ready for JSON."""


@dataclass(frozen=True)
class TraceRecipe:
    """Refined traces: the recipe of `jobs.generate`."""

    lm: LM
    reward: Reward
    decoding: Decoding
    engine: Engine
    verify: Verify
    seed: int
    config_hash: str

    @property
    def schema(self) -> pa.Schema:
        return TRACES

    @property
    def totals(self) -> tuple[str, ...]:
        return COLUMNS

    def summarise(self, tables: Iterable[pa.Table]) -> dict[str, Any]:
        return Summary.of(tables).as_dict()

    def open(self) -> Maker:
        engines = open_engines(self.lm, self.reward, self.engine)
        if self.decoding.method == "nabla":
            engines.check(self.decoding.nabla)
        return TraceMaker(self, engines)


def open_engines(lm: LM, reward: Reward, engine: Engine) -> Engines:
    """The engines of one process; `scripted?...` as the LM's path loads no model."""
    if _scripted(lm):
        from nabla_core.engines import scripted  # noqa: PLC0415 - as below

        return scripted.from_path(lm.path, max_batch=engine.max_batch)
    from transformers.utils import logging  # noqa: PLC0415 - torch: workers only

    from nabla_core.engines.loading import load_engines  # noqa: PLC0415 - as above

    logging.disable_progress_bar()

    return load_engines(lm, reward, engine)


def render(prompt: Prompt, lm: LM) -> str:
    """The prompt as the LM reads it; needs the tokenizer alone. Raises ModelError."""
    if _scripted(lm):
        return prompt.text
    from transformers import AutoTokenizer  # noqa: PLC0415 - as above

    from nabla_core.embedded.weights import located  # noqa: PLC0415 - as above

    path = located(lm.path, "lm")
    if Path(path).is_dir() and not any(Path(path).glob("tokenizer*")):
        raise ModelError(f"{lm.path}: no tokenizer files in this folder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=lm.revision)
    except (OSError, ValueError) as error:
        raise ModelError(f"{lm.path}: cannot load a tokenizer: {error}") from error
    try:
        return render_for_lm(prompt, tokenizer)[0]
    except Exception as error:  # a template is a program, and some refuse a system prompt
        told = f"{type(error).__name__}: {error}"
        raise ModelError(f"{lm.path} cannot render prompt {prompt.id}: {told}") from error


def _scripted(lm: LM) -> bool:
    return lm.path.partition("?")[0] == "scripted"


class TraceMaker:
    """See `TraceRecipe`."""

    def __init__(self, recipe: TraceRecipe, engines: Engines) -> None:
        self.engines = engines
        self._recipe = recipe
        self._grade: Grader = grader(recipe.verify)
        self._constant = {
            "method": recipe.decoding.method,
            "seed": recipe.seed,
            "config_hash": recipe.config_hash,
            **model_columns(engines.identities, generation="lm", judge="judge", guide="guide"),
        }

    def flow(self, prompt: Prompt) -> Flow:
        return flow(prompt, self._recipe.decoding, seed=self._recipe.seed)

    def row(self, prompt: Prompt, result: Trace) -> dict[str, Any]:
        after = self._grade(prompt, result.text)
        before = after if result.base_text == result.text else self._grade(prompt, result.base_text)
        return {
            **self._constant,
            **prompt_columns(prompt),
            **trace_columns(prompt, result),
            "predicted_answer": after.predicted,
            "correct": after.correct,
            "base_correct": before.correct,
        }

    def dead(self, prompt: Prompt) -> dict[str, Any]:
        return {**self._constant, **prompt_columns(prompt)}

    def numbers(self, row: Mapping[str, Any]) -> dict[str, float]:
        found = {
            "proposed": len(row["revisions"]),
            "accepted": sum(revision["accepted"] for revision in row["revisions"]),
            "reward": row["reward"],
            "base_reward": row["base_reward"],
            "correct": row["correct"],
            "base_correct": row["base_correct"],
        }
        return {name: float(value) for name, value in found.items() if value is not None}
