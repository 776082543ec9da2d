"""What a job makes of a prompt: the interface between a job and the room `run`.

The driver, the workers and the store know of a job's rows nothing but this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import pyarrow as pa

from nabla_core.engines.base import Engines
from nabla_core.requests import RequestGenerator
from nabla_core.types import Identity, Prompt


class Maker(Protocol):
    """Makes rows in a worker process: it has the engines, and turns a prompt into columns."""

    @property
    def engines(self) -> Engines: ...

    def flow(self, prompt: Prompt) -> RequestGenerator[Any]:
        """The generator that works on the prompt."""

    def row(self, prompt: Prompt, result: Any) -> dict[str, Any]:
        """The columns of a finished row, without the store's own columns."""

    def dead(self, prompt: Prompt) -> dict[str, Any]:
        """The columns of a dead letter: those of the prompt, none of a result."""

    def numbers(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Numbers of a row that the driver adds up and shows as progress."""


class Recipe(Protocol):
    """The settings of a job; pickled, sent to the workers, and opened there as a `Maker`."""

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def summary_columns(self) -> tuple[str, ...]:
        """The columns that `summarise` reads."""

    def models(self) -> Mapping[str, Identity]:
        """The models by role, as `Engines.identities` will have them, without loading them; only
        those whose files this process can see. Raises ModelError."""

    def open(self) -> Maker:
        """Load the models. Raises ModelError."""

    def summarise(self, tables: Iterable[pa.Table]) -> dict[str, Any]:
        """Totals over the committed rows of a run, for the manifest; values that JSON can hold."""
