"""How far a run is, read from its folder. Needs neither Ray nor torch and changes nothing."""

from __future__ import annotations

import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import compress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DamagedError, StoreError
from pipeline.store.checks.version import check_version
from pipeline.store.claims import holder
from pipeline.store.expected import INPUT, read_expected
from pipeline.store.files import Folder
from pipeline.store.final import DATA, DEAD_LETTER, published
from pipeline.store.parts import KEY_COLUMNS, PARTS, open_marked, read
from pipeline.store.run_folder import open_folder
from pipeline.tables.trace_totals import error_type

# Columns of any table whose means say how a run goes.
MEASURES = ("base_reward", "reward", "base_correct", "correct", "score")
RECENT_SECONDS, RECENT_ROWS = 600.0, 20
INTERRUPTION_SECONDS = 3600.0
# The times of so many rows are kept.
LAST = 100_000


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
    files whose rows are not counted, and which a resume makes again. `means` are those of finished
    rows that have a value (rewards, scores, shares of right answers), by column. `rate` is in rows
    a second, of the last ten minutes in which rows were made.
    """

    state: RunState
    holder: str | None
    rows: int
    finished: int
    dead: int
    dead_by_error: dict[str, int]
    damaged: int
    means: dict[str, float]
    rate: float | None

    @property
    def seconds_left(self) -> float | None:
        """At the present rate."""
        left = self.rows - self.finished - self.dead
        return left / self.rate if self.rate else None


def run_status(run_dir: str) -> RunStatus:
    """Read the status of a run folder. Raises StoreError where there is none."""
    with reading(run_dir):
        folder = open_folder(run_dir)
        if not folder.exists(INPUT):
            raise StoreError(f"{run_dir} is no run folder, or its run has not begun")
        check_version(folder)
        return _status(folder)


@contextmanager
def reading(run_dir: str) -> Iterator[None]:
    """A block in which the folder is read. Raises StoreError where that fails."""
    try:
        yield
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
        state=state_of(driver, finished=checksums is not None),
        holder=driver,
        rows=expected.rows,
        finished=finished,
        dead=dead.total(),
        dead_by_error=dict(dead.most_common()),
        damaged=count.damaged,
        means=count.means(),
        rate=count.rate(time.time() if driver else None),
    )


def state_of(driver: str | None, *, finished: bool) -> RunState:
    """The state of a folder that `driver` holds, if any."""
    if driver:
        return RunState.RUNNING
    return RunState.DONE if finished else RunState.STOPPED


def recent_rate(created: Iterable[float], now: float | None) -> float | None:
    """Rows a second by the times at which rows were made, in seconds since 1970; None where they
    do not tell.

    Of the last ten minutes and of 20 rows at least, but not of the time before an interruption.
    `now`: the time up to which no further row was made; None: the run does not go on.
    """
    times = sorted(created, reverse=True)
    recent = times[:1]
    for earlier in times[1:]:
        enough = len(recent) >= RECENT_ROWS and recent[0] - earlier > RECENT_SECONDS
        if enough or recent[-1] - earlier > INTERRUPTION_SECONDS:
            break
        recent.append(earlier)
    if len(recent) < 2:
        return None
    seconds = max(recent[0], now or 0.0) - recent[-1]
    return (len(recent) - 1) / seconds if seconds > 0 else None


class _Count:
    """Committed rows by key; a finished row replaces a dead letter of the same key.

    Keys are hashes of 8 bytes: a run may have millions of rows, and ids may be long.
    """

    def __init__(self) -> None:
        self._finished = array("q")
        self._dead: dict[int, str] = {}  # types of errors
        self.damaged = 0
        self._created = array("d")
        self._sums: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    def distinct(self) -> tuple[int, Counter[str]]:
        """The number of finished rows, and of dead ones by type of error; each key once."""
        finished = np.unique(np.frombuffer(self._finished, np.int64))
        keys = np.fromiter(self._dead, np.int64, len(self._dead))
        still_dead = ~np.isin(keys, finished)
        return len(finished), Counter(compress(self._dead.values(), still_dead))

    def add(self, folder: Folder, name: str, marks: Mapping[bytes, bytes]) -> None:
        try:
            table = _columns(folder, open_marked(folder, name, marks))
            keys = [table[c].to_pylist() for c in ("prompt_id", "sample", "error", "created_at")]
            measures = {c: table[c].to_pylist() for c in MEASURES if c in table.column_names}
        except FileNotFoundError:
            return
        # Damage of the schema, as in the time zone of created_at, shows where values are made.
        except (DamagedError, pa.ArrowInvalid):
            self.damaged += 1
            return
        for number, (prompt_id, sample, error, created) in enumerate(zip(*keys, strict=True)):
            key = hash((prompt_id, sample))
            if error is None:
                self._finished.append(key)
            else:
                self._dead[key] = sys.intern(error_type(error))
            self._created.append(created.timestamp())
            for column, values in measures.items():
                if error is None and values[number] is not None:
                    self._sums[column] += values[number]
                    self._counts[column] += 1
        if len(self._created) > 2 * LAST:
            self._created = array("d", sorted(self._created)[-LAST:])

    def means(self) -> dict[str, float]:
        """Means of `MEASURES` over finished rows that have a value."""
        return {column: total / self._counts[column] for column, total in self._sums.items()}

    def rate(self, now: float | None) -> float | None:
        """See `recent_rate`."""
        # While a run is compacted two files hold each row.
        return recent_rate(set(self._created), now)


def _columns(folder: Folder, file: pq.ParquetFile) -> pa.Table:
    """The columns that are counted; closes the file. Raises as `parts.read` does."""
    with file:
        types = {field.name: field.type for field in file.schema_arrow}
        # A footer may be damaged and readable all the same.
        if set(KEY_COLUMNS) - types.keys() or not pa.types.is_timestamp(types["created_at"]):
            raise DamagedError("other columns")
        numbers = [name for name in MEASURES if name in types and _is_number(types[name])]
        columns = [*KEY_COLUMNS, *numbers]
        groups = range(file.metadata.num_row_groups)
        if not groups:
            raise DamagedError("no rows")
        return pa.concat_tables([read(folder, file, columns, group) for group in groups])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _files(folder: Folder) -> Iterator[str]:
    """Parts before final files: the rows of a part that a compaction deletes meanwhile are then
    found in the final files."""
    for sub in (PARTS, DATA, DEAD_LETTER):
        for file in folder.files(sub):
            yield file.name
