"""Totals over trace rows. They are computed from the committed files: a counter in a process would
be lost with it, and would count rows that are made twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

COLUMNS = (
    "error",
    "reward",
    "base_reward",
    "correct",
    "base_correct",
    "revisions",
    "cost",
    *(f"{m}_{f}" for m in ("generation", "judge", "guide") for f in ("model", "revision")),
)


@dataclass
class Summary:
    """Totals of finished rows, and the number of dead ones by type of error.

    `proposed` and `accepted` count revisions, `revised` rows with an accepted one. Means are over
    the rows that have a value.
    """

    rows: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    proposed: int = 0
    accepted: int = 0
    revised: int = 0
    cost: Counter[str] = field(default_factory=Counter)
    models: dict[str, dict[str, str]] = field(default_factory=dict)
    _sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, tables: Iterable[pa.Table]) -> Summary:
        """The totals of tables with `COLUMNS`."""
        summary = cls()
        for table in tables:
            summary._add(table)
        return summary

    def mean(self, column: str) -> float | None:
        """The mean of a column; None if no row has a value."""
        count = self._counts[column]
        return self._sums[column] / count if count else None

    def as_dict(self) -> dict[str, Any]:
        """The totals, ready for JSON."""
        means = ("base_reward", "reward", "base_correct", "correct")
        return {
            "models": self.models,
            "dead_by_error": dict(self.dead.most_common()),
            "means": {name: self.mean(name) for name in means},
            "revised": self.revised,
            "proposals": {"made": self.proposed, "accepted": self.accepted},
            "cost": dict(self.cost),
        }

    def _add(self, table: pa.Table) -> None:
        errors = table["error"].to_pylist()
        self.dead.update(error_type(e) for e in errors if e is not None)
        self.rows += errors.count(None)
        for column in ("reward", "base_reward", "correct", "base_correct"):
            values = table[column].cast(pa.float64()).drop_null()
            self._sums[column] += float(pc.sum(values).as_py() or 0)
            self._counts[column] += len(values)
        for revisions in table["revisions"].to_pylist():
            accepted = [r for r in revisions or () if r["accepted"]]
            self.proposed += len(revisions or ())
            self.accepted += len(accepted)
            if accepted:
                self.revised += 1
        for cost in table["cost"].to_pylist():
            self.cost.update(cost or {})
        for role in ("generation", "judge", "guide"):
            name = table[f"{role}_model"].drop_null()
            if role not in self.models and len(name):
                revision = table[f"{role}_revision"].drop_null()[0].as_py()
                self.models[role] = {"name": name[0].as_py(), "revision": revision}


def error_type(error: str) -> str:
    """The exception's type, with which the column `error` begins."""
    return error.partition(":")[0]
