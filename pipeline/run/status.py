"""How far a run is, read from its folder. Needs no Ray and changes nothing."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import compress

import numpy as np

from pipeline.errors import DamagedError, StoreError
from pipeline.store.checks.version import check_version
from pipeline.store.claims import holder
from pipeline.store.expected import INPUT, read_expected
from pipeline.store.files import Folder
from pipeline.store.final import DATA, DEAD_LETTER, published
from pipeline.store.parts import PARTS, open_marked, read_keys
from pipeline.store.run_folder import open_folder
from pipeline.tables.trace_totals import error_type


class RunState(StrEnum):
    """What happens in a run folder."""

    DONE = "done"
    """All rows are in the final files."""
    RUNNING = "running"
    """A driver holds the lease."""
    STOPPED = "stopped"
    """Rows are missing and no driver makes them; the same command resumes the run."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How far a run is. `holder`: the driver that runs it, if any. `rows`: how many rows the
    finished run will hold.

    The other counts are of committed rows, each `(prompt_id, sample)` once. `damaged` counts
    files whose rows are not counted, and which a resume makes again.
    """

    state: RunState
    holder: str | None
    rows: int
    finished: int
    dead: int
    dead_by_error: dict[str, int]
    damaged: int


def run_status(run_dir: str) -> RunStatus:
    """Read the status of a run folder. Raises StoreError where there is none."""
    try:
        folder = open_folder(run_dir)
        if not folder.exists(INPUT):
            raise StoreError(f"{run_dir} is no run folder, or its run has not begun")
        check_version(folder)
        return _status(folder)
    except (OSError, ValueError, ImportError) as error:
        raise StoreError(f"cannot read run folder {run_dir}: {error}") from error


def _status(folder: Folder) -> RunStatus:
    expected = read_expected(folder)
    if expected is None:
        raise StoreError(
            f"{folder.uri}/{INPUT} is damaged: the command that made the run writes it again"
        )
    checksums = published(folder)
    count = _Count()
    for name in _files(folder):
        final = not name.startswith(f"{PARTS}/")
        if final and checksums is not None and name not in checksums:
            count.damaged += 1
        else:
            count.add(folder, name, expected.marks)
    finished, dead = count.distinct()
    driver = holder(folder)
    return RunStatus(
        state=_state(driver, finished=checksums is not None),
        holder=driver,
        rows=expected.rows,
        finished=finished,
        dead=dead.total(),
        dead_by_error=dict(dead.most_common()),
        damaged=count.damaged,
    )


def _state(driver: str | None, *, finished: bool) -> RunState:
    if driver:
        return RunState.RUNNING
    return RunState.DONE if finished else RunState.STOPPED


class _Count:
    """Committed rows by key; a finished row replaces a dead letter of the same key.

    Keys are hashes of 8 bytes: a run may have millions of rows, and ids may be long.
    """

    def __init__(self) -> None:
        self._finished = array("q")
        self._dead: dict[int, str] = {}  # types of errors
        self.damaged = 0

    def distinct(self) -> tuple[int, Counter[str]]:
        """The number of finished rows, and of dead ones by type of error; each key once."""
        finished = np.unique(np.frombuffer(self._finished, np.int64))
        keys = np.fromiter(self._dead, np.int64, len(self._dead))
        still_dead = ~np.isin(keys, finished)
        return len(finished), Counter(compress(self._dead.values(), still_dead))

    def add(self, folder: Folder, name: str, marks: Mapping[bytes, bytes]) -> None:
        try:
            keys = read_keys(folder, open_marked(folder, name, marks))
        except FileNotFoundError:
            return
        except DamagedError:
            self.damaged += 1
            return
        columns = (keys[c].to_pylist() for c in ("prompt_id", "sample", "error"))
        for prompt_id, sample, error in zip(*columns, strict=True):
            key = hash((prompt_id, sample))
            if error is None:
                self._finished.append(key)
            else:
                self._dead[key] = sys.intern(error_type(error))


def _files(folder: Folder) -> Iterator[str]:
    """Parts before final files: the rows of a part that a compaction deletes meanwhile are then
    found in the final files."""
    for sub in (PARTS, DATA, DEAD_LETTER):
        for file in folder.files(sub):
            yield file.name
