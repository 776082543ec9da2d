"""progress.json in a run folder: how far work is that leaves no rows, for `nabla status`.

It is a sign of life and nothing more: no step of a job reads it.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from pipeline.store.files import MALFORMED, Folder

PROGRESS = "progress.json"
WRITE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`done` of `total` units are done. `rate` is in units a second, of the present process; None
    before its first unit. `at`: when this was written, in ISO 8601."""

    unit: str
    done: int
    total: int
    rate: float | None
    at: str

    @property
    def seconds_left(self) -> float | None:
        """At the present rate."""
        return (self.total - self.done) / self.rate if self.rate else None


class ProgressFile:
    """Writes the file, at most every `WRITE_SECONDS`: at once, and whenever work is reported."""

    def __init__(self, folder: Folder, *, unit: str, done: int, total: int) -> None:
        self._folder, self._unit, self._total = folder, unit, total
        self._began, self._done_before = time.monotonic(), done
        self._write(done)

    def report(self, done: int) -> None:
        """So many units are done now."""
        if done == self._total or time.monotonic() - self._written >= WRITE_SECONDS:
            self._write(done)

    def skip(self) -> None:
        """One more unit is done, by an earlier process: no part of the rate."""
        self._done_before += 1

    def _write(self, done: int) -> None:
        self._written = time.monotonic()
        seconds, made = self._written - self._began, done - self._done_before
        progress = Progress(
            unit=self._unit,
            done=done,
            total=self._total,
            rate=made / seconds if made and seconds else None,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._folder.write(PROGRESS, json.dumps(asdict(progress)).encode())


def read_progress(folder: Folder) -> Progress | None:
    """What the file says; None where it is missing or damaged."""
    try:
        found = Progress(**json.loads(folder.read(PROGRESS)))
        whole = (
            all(isinstance(text, str) for text in (found.unit, found.at))
            and all(type(count) is int for count in (found.done, found.total))
            and isinstance(found.rate, int | float | None)
        )
    except (FileNotFoundError, *MALFORMED):
        return None
    return found if whole else None
