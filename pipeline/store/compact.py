"""Compaction: many small parts become few large files, in input order, each row once.

A file holds a fixed range of slots. So files are independent of each other: threads write them in
parallel, and a file that an interrupted compaction has finished is kept. A thread has one row
group in memory. The content of the files does not depend on the order in which rows were made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DamagedError, LeaseError
from pipeline.store.files import ChecksumWriter, Folder
from pipeline.store.parts import ROWS, SUFFIX, digest_of_rows, open_part, read
from pipeline.store.slots import Slots

ROW_GROUP = 1000


def nothing_to_check() -> None:
    """Stands for `Lease.check` where no lease is held."""


@dataclass(frozen=True)
class Compactor:
    """Writes the final files of a run. `rows_per_file` rows each, `threads` at a time.

    `claim` and `check` are the number and the check of the lease under which it works.
    """

    folder: Folder
    schema: pa.Schema
    slots: Slots
    rows_per_file: int
    threads: int
    claim: int = 0
    check: Callable[[], None] = nothing_to_check

    def run(self, name: str, chosen: Sequence[int]) -> dict[str, str]:
        """Write the rows of the chosen slots to the files `name`/train-*.parquet; returns their
        names with their checksums.

        Deletes other files in that folder. Raises DamagedError; its `file` is the damaged one.
        """
        size = self.rows_per_file
        ranges = [chosen[start : start + size] for start in range(0, len(chosen), size)]
        # In an object store a suspended driver may write or delete a file later, which nothing
        # prevents. So the names of its files are not those of another driver.
        end = SUFFIX if self.folder.local else f"-{self.claim:08d}{SUFFIX}"
        files = [f"{name}/train-{n:05d}-of-{len(ranges):05d}{end}" for n in range(len(ranges))]
        with ThreadPoolExecutor(self.threads) as pool:
            sums = pool.map(self._retrying, files, ranges)
            checksums = dict(zip(files, sums, strict=True))
        # Files of a former compaction, which had fewer rows. Deleted last: nothing is lost if this
        # process dies before, since the parts stay until _SUCCESS is written.
        others = [found.name for found in self.folder.files(name) if found.name not in checksums]
        # After the listing: what was listed before the check is of no later driver.
        self.check()
        for other in others:
            self.folder.delete(other)
        return checksums

    def _retrying(self, name: str, slots: Sequence[int]) -> str:
        checksum = self.folder.retrying(lambda: self._file(name, slots))
        try:
            self.check()
        except LeaseError:
            self.folder.delete(name)
            raise
        return checksum

    def _file(self, name: str, slots: Sequence[int]) -> str:
        rows = digest_of_rows(map(self.slots.digest, slots))
        if self._is_complete(name, rows):
            return self.folder.checksum(name)
        schema = self.schema.with_metadata({**self.schema.metadata, ROWS: rows})
        with (
            self.folder.writing(name) as plain,
            ChecksumWriter(plain) as sink,
            pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer,
        ):
            for start in range(0, len(slots), ROW_GROUP):
                table = self._gather(slots[start : start + ROW_GROUP])
                writer.write_table(table.replace_schema_metadata(schema.metadata))
            writer.close()  # writes the footer, which the checksum includes
            return sink.checksum()

    def _is_complete(self, name: str, rows: bytes) -> bool:
        """Whether the file exists, is whole and holds exactly these rows.

        The name is not enough: it depends on the number of files only, and a dead prompt that was
        retried moves all rows after it.
        """
        if not self.folder.exists(name):
            return False
        try:
            file = open_part(self.folder, name, self.schema)
        except DamagedError:
            return False
        with file:
            metadata: dict[bytes, bytes] = file.schema_arrow.metadata
            return metadata.get(ROWS) == rows

    def _gather(self, slots: Sequence[int]) -> pa.Table:
        """The rows of these slots, in this order, from the files that hold them."""
        rows_by_file: dict[str, list[tuple[int, int]]] = {}
        for place, slot in enumerate(slots):
            file, row = self.slots.location(slot)
            rows_by_file.setdefault(file, []).append((row, place))
        tables: list[pa.Table] = []
        places: list[int] = []
        for file, rows in rows_by_file.items():
            rows.sort()  # each row group is read once
            try:
                tables.extend(self._take(open_part(self.folder, file, self.schema), rows))
            except DamagedError as error:
                raise DamagedError(str(error), file) from error
            except FileNotFoundError as error:
                raise DamagedError("deleted since the scan", file) from error
            places.extend(place for _, place in rows)
        # Tables are in the order of the files now. Put the rows into that of the slots.
        order = sorted(range(len(places)), key=places.__getitem__)
        table = pa.concat_tables(tables).take(order).combine_chunks()
        # A file may have been replaced since the scan, by another row at that place.
        keys = zip(table["prompt_id"].to_pylist(), table["sample"].to_pylist(), strict=True)
        for slot, key in zip(slots, keys, strict=True):
            if not self.slots.has_key(slot, *key):
                raise DamagedError(
                    f"row {key} in place of the one that the scan found",
                    self.slots.location(slot)[0],
                )
        return table

    def _take(self, file: pq.ParquetFile, rows: list[tuple[int, int]]) -> Iterator[pa.Table]:
        """Rows by their number in the file. Reads only the row groups that contain them."""
        with file:
            metadata: Any = file.metadata
            sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
            start = 0
            for group, end in enumerate(accumulate(sizes)):
                in_group = [row - start for row, _ in rows if start <= row < end]
                if in_group:
                    yield read(self.folder, file, self.schema.names, group).take(in_group)
                start = end
