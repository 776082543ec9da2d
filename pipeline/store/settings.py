"""Settings of the store."""

from __future__ import annotations

from dataclasses import dataclass

from nabla_core.config import check
from pipeline.durations import check_seconds


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
    """

    flush_rows: int = 1
    flush_seconds: float = 10.0
    rows_per_file: int = 50_000
    threads: int = 4
    lease_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("flush_rows", "rows_per_file", "threads"):
            value = getattr(self, name)
            check(value >= 1, f"store.{name} must be at least 1, got {value}")
        for name in ("flush_seconds", "lease_seconds"):
            check_seconds(f"store.{name}", getattr(self, name))
