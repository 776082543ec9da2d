"""Settings of the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nabla_core.config import check
from nabla_core.config_metadata import NOT_SHAPING
from pipeline.durations import check_seconds

Candidates = Literal["all", "accepted", "none"]


@dataclass(frozen=True)
class Store:
    """How rows become files.

    Attributes:
        flush_rows (rows): A worker commits once this many rows wait, or when it has nothing else to
            do.
        flush_seconds (s): A worker commits once a row has waited for this time.
        rows_per_file (rows): Rows of a final file.
        threads (threads): Files that are read or written at a time.
        lease_seconds (s): Another driver may take over the run folder after this time without a
            sign of this one.
        candidates: Of which proposed revisions a trace keeps the new tokens
            (`revisions.tail_token_ids`): `all`, those `accepted`, or `none`. Preference pairs of
            revisions need them. Other rows than traces have none.
    """

    flush_rows: int = field(default=1, metadata=NOT_SHAPING)
    flush_seconds: float = field(default=10.0, metadata=NOT_SHAPING)
    rows_per_file: int = field(default=50_000, metadata=NOT_SHAPING)
    threads: int = field(default=4, metadata=NOT_SHAPING)
    lease_seconds: float = field(default=30.0, metadata=NOT_SHAPING)
    candidates: Candidates = "all"

    def __post_init__(self) -> None:
        for name in ("flush_rows", "rows_per_file", "threads"):
            value = getattr(self, name)
            check(value >= 1, f"store.{name} must be at least 1, got {value}")
        for name in ("flush_seconds", "lease_seconds"):
            check_seconds(f"store.{name}", getattr(self, name))
