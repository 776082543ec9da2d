"""How much a run may spend, and what it has spent. Nothing here imports ray."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from nabla_core.config import check
from pipeline.run.prompt_status import PromptState, PromptStatus

COLUMNS = ("cost",)


@dataclass(frozen=True)
class Budget:
    """Limits at which a run commits what is finished and ends with exit code 5. The same command
    with a larger limit continues. null: no limit.

    Attributes:
        rows (rows): Committed rows of the run folder, dead letters among them. The first ones of
            the input are made.
        flops (FLOPs): FLOPs of the committed rows of the run folder. Once they are reached no
            further prompt begins; those that have begun are finished, whatever they cost.
        seconds (s): Wall-clock time of one command. Prompts that have begun are given up, and made
            again when the run goes on.
    """

    rows: int | None = None
    flops: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("rows", "flops", "seconds"):
            limit = getattr(self, name)
            check(limit is None or limit > 0, f"budget.{name} must be above 0, got {limit}")


class Spending:
    """What a run has spent of its budget. The time begins with the object."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._started = time.monotonic()
        self._flops = 0.0

    def set_flops(self, tables: Iterable[pa.Table]) -> None:
        """Take the FLOPs of the committed rows; `tables` have `COLUMNS`. Reads them only where
        FLOPs are limited."""
        if self._budget.flops is not None:
            costs = (cost for table in tables for cost in table["cost"].to_pylist())
            self._flops = sum(cost["flops"] for cost in costs if cost is not None)

    def add(self, status: PromptStatus) -> None:
        """Add the FLOPs of a row that was committed now."""
        if self._budget.flops is not None and status.state is PromptState.DONE:
            self._flops += json.loads(status.detail)["flops"]

    def is_time_up(self) -> bool:
        """Whether `budget.seconds` are over."""
        seconds = self._budget.seconds
        return seconds is not None and time.monotonic() - self._started >= seconds

    def are_flops_spent(self) -> bool:
        """Whether `budget.flops` are reached."""
        flops = self._budget.flops
        return flops is not None and self._flops >= flops

    def reached(self, rows: int) -> str | None:
        """The limit that is reached, as a setting; `rows` are committed."""
        budget = self._budget
        if budget.rows is not None and rows >= budget.rows:
            return f"budget.rows={budget.rows}"
        if self.are_flops_spent():
            return f"budget.flops={budget.flops:g}"
        return f"budget.seconds={budget.seconds:g}" if self.is_time_up() else None
