"""The Parquet files of a dataset folder, a unit of rows at a time.

A file is whole once it has its name, and its footer names the export and the units that it holds.
So an export that was interrupted goes on with the first file that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.export.folder import DEFAULT, METADATA
from pipeline.export.formats import Converter
from pipeline.export.index import Array, Index
from pipeline.export.sources import Reader
from pipeline.export.texts import CHUNK, Progress
from pipeline.store.failpoints import failpoint
from pipeline.store.files import ChecksumWriter, Folder
from pipeline.tables.traces import TRACES

_MARK = b"nabla_export"
_METADATA = pa.schema([*TRACES, ("run", pa.string())])


@dataclass(frozen=True, kw_only=True)
class Units:
    """What a split holds: rows of the index in `order`, the first of each unit in `starts`."""

    order: Array
    starts: Array

    def __len__(self) -> int:
        return len(self.starts)

    def of(self, first: int, last: int) -> list[Array]:
        """The rows of the units from `first` up to `last`, unit by unit."""
        end = self.starts[last] if last < len(self) else len(self.order)
        bounds = [*self.starts[first:last], end]
        return [self.order[a:b] for a, b in pairwise(bounds)]


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes the files of one export. `digest` stands for its settings and sources."""

    folder: Folder
    reader: Reader
    index: Index
    converter: Converter
    digest: str
    rows_per_file: int
    progress: Progress

    def split(self, name: str, units: Units) -> tuple[int, dict[str, str]]:
        """Write the files of a split; returns the rows of `default` and the files' checksums."""
        size = self.rows_per_file
        total = max(1, -(-len(units) // size))
        rows = 0
        sums: dict[str, str] = {}
        for n in range(total):
            first, last = n * size, min((n + 1) * size, len(units))
            base = f"{name}-{n:05d}-of-{total:05d}.parquet"
            files = {config: f"{config}/{base}" for config in (DEFAULT, METADATA)}
            found = self._finished(files, first, last)
            count, checksums = found or self._write(files, units, first, last, name)
            rows += count
            sums |= checksums
            failpoint(f"export-file {base}")
        return rows, sums

    def _finished(
        self, files: Mapping[str, str], first: int, last: int
    ) -> tuple[int, dict[str, str]] | None:
        """Rows and checksums of files that are whole and of this export; None otherwise."""
        rows = 0
        for config, file in files.items():
            if not self.folder.exists(file):
                return None
            try:
                with self.folder.fs.open_input_file(self.folder.path(file)) as source:
                    parquet = pq.ParquetFile(source, page_checksum_verification=True)
                    marks: dict[bytes, bytes] = parquet.schema_arrow.metadata or {}
                    count = parquet.metadata.num_rows
            except (pa.ArrowException, OSError):
                return None
            if marks.get(_MARK) != self._mark(first, last):
                return None
            rows = count if config == DEFAULT else rows
        return rows, {file: self.folder.checksum(file) for file in files.values()}

    def _mark(self, first: int, last: int) -> bytes:
        return f"{self.digest} {first} {last}".encode()

    def _write(
        self, files: Mapping[str, str], units: Units, first: int, last: int, split: str
    ) -> tuple[int, dict[str, str]]:
        return self.folder.retrying(lambda: self._files(files, units, first, last, split))

    def _files(
        self, files: Mapping[str, str], units: Units, first: int, last: int, split: str
    ) -> tuple[int, dict[str, str]]:
        rows = 0
        mark = {_MARK: self._mark(first, last)}
        schemas = {DEFAULT: self.converter.schema, METADATA: _METADATA}
        with ExitStack() as stack:
            sinks: dict[str, ChecksumWriter] = {}
            writers: dict[str, pq.ParquetWriter] = {}
            for config, file in files.items():
                plain = stack.enter_context(self.folder.writing(file))
                sinks[config] = stack.enter_context(ChecksumWriter(plain))
                writers[config] = stack.enter_context(
                    pq.ParquetWriter(
                        sinks[config],
                        schemas[config].with_metadata(mark),
                        compression="zstd",
                        write_page_checksum=True,
                    )
                )
            for start, end in _batches(units, first, last):
                made, traces = self._convert(units.of(start, end))
                rows += len(made)
                writers[DEFAULT].write_table(made.replace_schema_metadata(mark))
                writers[METADATA].write_table(traces.replace_schema_metadata(mark))
                self.progress(f"writing {split}", end, len(units))
            for writer in writers.values():
                writer.close()  # writes the footer, which the checksum includes
            return rows, {file: sinks[config].checksum() for config, file in files.items()}

    def _convert(self, units: Sequence[Array]) -> tuple[pa.Table, pa.Table]:
        numbers = [int(n) for unit in units for n in unit]
        files, rows = self.index.file[numbers], self.index.row[numbers]
        traces = self.reader.gather(files, rows, TRACES.names)
        turns = self.converter.turns
        values = iter(turns.read(traces.select(list(self.converter.columns))))
        made = [
            row
            for unit in units
            for row in self.converter.convert([next(values) for _ in range(len(unit))])
        ]
        runs = pa.array([self.reader.files[int(file)][0].name for file in files], pa.string())
        return (
            turns.table(made, self.converter.schema),
            traces.cast(TRACES.remove_metadata()).append_column("run", runs),
        )


def _batches(units: Units, first: int, last: int) -> list[tuple[int, int]]:
    """Ranges of units of about `CHUNK` rows."""
    found: list[tuple[int, int]] = []
    sizes = np.diff(np.append(units.starts, len(units.order)))
    start, rows = first, 0
    for n in range(first, last):
        rows += int(sizes[n])
        if rows >= CHUNK or n + 1 == last:
            found.append((start, n + 1))
            start, rows = n + 1, 0
    return found
