"""The committed traces of a run folder, finished or not, each once, and where they are.

Reads as `nabla status` does: parts before final files, so that the rows of a part that a compaction
deletes meanwhile are found in the final files. Nothing here imports torch or ray.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DamagedError, InputError, StoreError
from pipeline.store.checks.owner import owner_of
from pipeline.store.checks.version import check_version
from pipeline.store.expected import read_expected
from pipeline.store.files import Folder
from pipeline.store.final import DATA, DEAD_LETTER, published
from pipeline.store.parts import KIND, PARTS, open_marked, read
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.tables.traces import TRACES

KEYS = ("prompt_id", "sample", "error")
_BATCH = 256


class ChangedError(StoreError):
    """A file of the run folder was replaced since it was listed: read the folder again."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A row group of a file, and which of its rows count: the others are committed twice, or are
    dead letters of rows that were finished later."""

    file: str
    number: int
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Committed:
    """The committed traces of a run folder. `damaged` files are left out, and counted with files
    of a finished run that are lost; `finished`: these are the rows of a finished run."""

    folder: Folder
    groups: Sequence[Group]
    finished: bool
    damaged: int
    marks: Mapping[bytes, bytes]

    @property
    def rows(self) -> int:
        """How many traces and dead letters there are."""
        return sum(len(group.rows) for group in self.groups)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows in order, at most `_BATCH` at a time; all columns if none are given. Raises
        ChangedError, and StoreError where a file was damaged since."""
        for group in self.groups:
            table = self.table(group, columns)
            for start in range(0, len(table), _BATCH):
                yield table.slice(start, _BATCH)

    def table(self, group: Group, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a row group that count. Raises as `tables` does."""
        with _reading(self.folder, group.file):
            file = open_marked(self.folder, group.file, self.marks)
            with file:
                table = read(self.folder, file, columns or TRACES.names, group.number)
        return table if len(table) == len(group.rows) else table.take(pa.array(group.rows))


@contextmanager
def _reading(folder: Folder, name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ChangedError(f"{folder.uri}/{name} was replaced while it was read") from error
    except DamagedError as error:
        raise StoreError(f"{folder.uri}/{name}: {error}; a resume makes its rows again") from error


def check_traces(folder: Folder) -> None:
    """Raises InputError unless the folder is that of a run of traces, and VersionError where it is
    of another release."""
    check_version(folder)
    owner = owner_of(folder)
    expected = read_expected(folder)
    kind = expected.marks.get(KIND, b"").decode() if expected else None
    kind = kind or (owner.rows if owner else None)
    if owner is None and kind is None:
        raise InputError(f"{folder.uri} is no run folder")
    mine = TRACES.metadata[KIND].decode()
    if kind is None or kind.partition("/")[0] != mine.partition("/")[0]:
        made = f"`nabla {owner.job}`" if owner else "another command"
        raise InputError(f"{folder.uri} holds no traces: it is a run folder of {made}")
    if kind != mine:
        raise InputError(
            f"{folder.uri} holds rows of {kind}, and this release reads {mine}: use the release "
            "that made it"
        )


def committed(uri: str) -> Committed:
    """The committed traces of a run folder. Raises InputError where it is another folder, and
    StoreError where it cannot be read."""
    folder = open_folder(uri)
    with translate_os_errors(uri):
        check_traces(folder)
        return _scan(folder)


def check_run(uri: str) -> None:
    """Whether a folder is that of a run of traces. Raises as `committed` does, without reading
    rows."""
    folder = open_folder(uri)
    with translate_os_errors(uri):
        check_traces(folder)


@dataclass
class _Keys:
    """The keys of all rows in files, as hashes of 8 bytes: a run may have millions of rows."""

    groups: list[tuple[str, int, int]] = field(default_factory=list)
    hashes: array[int] = field(default_factory=lambda: array("q"))
    dead: array[int] = field(default_factory=lambda: array("b"))

    def add(self, name: str, number: int, table: pa.Table) -> None:
        columns: list[list[Any]] = [table[column].to_pylist() for column in KEYS]
        for prompt_id, sample, error in zip(*columns, strict=True):
            self.hashes.append(hash((prompt_id, sample)))
            self.dead.append(error is not None)
        self.groups.append((name, number, len(table)))

    def chosen(self) -> Iterator[Group]:
        """Each key once: its first finished row, or else its first dead letter."""
        hashes = np.frombuffer(self.hashes, np.int64) if self.hashes else np.empty(0, np.int64)
        dead = np.frombuffer(self.dead, np.int8) if self.dead else np.empty(0, np.int8)
        order = np.lexsort((dead, hashes))  # stable: of equal ones the first row stays first
        first = np.ones(len(order), dtype=bool)
        first[1:] = hashes[order][1:] != hashes[order][:-1]
        counts = np.zeros(len(order), dtype=bool)
        counts[order[first]] = True
        start = 0
        for file, number, size in self.groups:
            rows = np.flatnonzero(counts[start : start + size]).astype(np.int64)
            start += size
            if len(rows):
                yield Group(file=file, number=number, rows=rows)


def _scan(folder: Folder) -> Committed:
    expected = read_expected(folder)
    marks = expected.marks if expected else {KIND: TRACES.metadata[KIND]}
    checksums = published(folder)
    keys, damaged = _Keys(), 0
    for name in _names(folder, checksums):
        try:
            file = open_marked(folder, name, marks)
            with file:
                _add(folder, name, file, keys)
        except FileNotFoundError:
            # Of a run that goes on, a compaction deletes parts whose rows are in the files that
            # follow. Of a finished one, the manifest names a file that is lost.
            if checksums is not None:
                damaged += 1
        except (DamagedError, pa.ArrowInvalid):
            damaged += 1
    return Committed(
        folder=folder, groups=tuple(keys.chosen()), finished=checksums is not None,
        damaged=damaged, marks=marks,
    )  # fmt: skip


def _add(folder: Folder, name: str, file: pq.ParquetFile, keys: _Keys) -> None:
    if not file.schema_arrow.equals(TRACES, check_metadata=False):
        raise DamagedError("other columns")
    # All of the file, or nothing: a damaged one is left out as a whole.
    tables = [read(folder, file, KEYS, n) for n in range(file.metadata.num_row_groups)]
    for number, table in enumerate(tables):
        keys.add(name, number, table)


def _names(folder: Folder, checksums: Mapping[str, str] | None) -> Iterator[str]:
    if checksums is not None:
        finals = (name for name in sorted(checksums) if name.endswith(".parquet"))
        yield from (name for name in finals if name.startswith((f"{DATA}/", f"{DEAD_LETTER}/")))
        return
    for sub in (PARTS, DATA, DEAD_LETTER):
        for file in folder.files(sub):
            yield file.name
