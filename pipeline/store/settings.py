"""Settings of the store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Store:
    """How rows become files.

    A worker commits when `flush_rows` rows wait, when one has waited `flush_seconds`, or
    when it has nothing else to do. Final files hold `rows_per_file` rows. `threads` read
    and write files at a time. Another driver may take the folder over once this one has
    been silent for `lease_seconds`.
    """

    flush_rows: int = 1
    flush_seconds: float = 10.0
    rows_per_file: int = 50_000
    threads: int = 4
    lease_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("flush_rows", "rows_per_file", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"store.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("flush_seconds", "lease_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"store.{name} must be above 0, got {getattr(self, name)}")
