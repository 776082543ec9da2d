"""What a run makes of a prompt. The Ray path and the store know nothing else of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import pyarrow as pa

from nabla_core.engines.base import Engines
from nabla_core.requests import Asking
from nabla_core.types import Prompt


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
