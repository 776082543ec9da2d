"""The run folder: committed rows, what is missing, and the final files.

    config.yaml    the resolved config        parts/        rows as they are committed
    input.json     how many rows to expect    data/         finished rows, in input order
    models.json    the models of the rows
    manifest.json  counts and checksums       dead_letter/  rows that could not be made
    lease/         the present driver         superseded/   rows of edited or removed prompts
    staging/       its temporary files        quarantine/   damaged files, or of other runs
    _VERSION       version of this layout     _SUCCESS      the checksum of manifest.json

The commit protocol, each step durable before the next begins:

    1. workers write parts; a row is committed once its part is
    2. the driver writes the final files from the parts (compaction)
    3. it writes manifest.json with their checksums, then _SUCCESS
    4. it deletes the parts

A crash at any point loses no committed row: until 3 the parts hold all rows, from 3 on the final
files do. A step that is repeated gives the same files.

A driver may be suspended at any point, lose its lease, and go on. On a local disk its next change
fails, since its stage is gone (see `store.lease`). An object store cannot prevent the change. There
final files carry the number of the claim, and a driver deletes only what it listed while it held
the lease. A manifest or marker that comes late does not fit: the folder counts as unfinished, and
the same command mends it without losing a row.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DamagedError, ResumeError
from pipeline.store.checks.version import check_version
from pipeline.store.compact import Compactor, nothing_to_check
from pipeline.store.expected import Expected, write_expected
from pipeline.store.failpoints import failpoint
from pipeline.store.final import (
    DATA,
    DEAD_LETTER,
    MANIFEST,
    SUCCESS,
    published,
    write_manifest,
    write_marker,
)
from pipeline.store.input_index import InputIndex, digest_of_row
from pipeline.store.lease import Lease
from pipeline.store.parts import (
    PARTS,
    ROWS,
    check_long_name,
    commit,
    digest_of_rows,
    marks,
    new_name,
    open_part,
    read,
    read_keys,
)
from pipeline.store.quarantine import QUARANTINE, SUPERSEDED, Quarantine, superseded_report
from pipeline.store.run_folder import open_folder
from pipeline.store.settings import Store
from pipeline.store.slots import DEAD, FINISHED, Slots


class RunStore:
    """The rows of one run folder. `schema` is the table's, with the config's hash in its metadata.

    Pickles to a few strings: each worker gets a copy and commits its rows through it.
    """

    def __init__(self, uri: str, schema: pa.Schema, settings: Store) -> None:
        self.folder = open_folder(uri)
        self.schema = schema
        self.settings = settings
        self.quarantine = Quarantine()
        self._claim = 0
        self._check: Callable[[], None] = nothing_to_check

    def __getstate__(self) -> dict[str, Any]:
        # A worker has no lease. Its stage is that of the driver which started it.
        return {**vars(self), "quarantine": Quarantine(), "_check": nothing_to_check}

    def hold(self, lease: Lease) -> None:
        """Make all changes under this lease: once another driver has taken over they raise
        LeaseError, in workers too."""
        self.folder = lease.folder
        self._claim, self._check = lease.number, lease.check

    def write_expected(self, rows: int) -> None:
        """Write how many rows there will be and how to recognise them, for `nabla status`."""
        write_expected(self.folder, Expected(rows, marks(self.schema)))

    def commit(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make rows durable as one part."""
        commit(self.folder, self.schema, rows)

    def is_complete(self) -> bool:
        """Whether the final files are complete."""
        return self.folder.exists(SUCCESS)

    def has_rows(self) -> bool:
        """Whether a row was ever committed, whatever became of its file."""
        rooms = (PARTS, DATA, DEAD_LETTER, SUPERSEDED, QUARANTINE)
        return self.is_complete() or any(self.folder.files(room) for room in rooms)

    def delete_temporary(self) -> None:
        """Delete temporary files of drivers and workers that crashed.

        The caller must hold the lease. A worker of a former driver may still write: its rename
        then fails, the row is not committed, and this run makes it again.
        """
        for name in (PARTS, DATA, DEAD_LETTER, SUPERSEDED, ""):
            for file in self.folder.unfinished(name):
                self.folder.delete(file.name)

    def scan(self, inputs: InputIndex, samples: int) -> Slots:
        """The slots of the input, filled with the committed rows.

        Moves files that are damaged or of another run to quarantine/. The caller must hold the
        lease.
        """
        slots = Slots(inputs, samples)
        if self.is_complete():
            sums = published(self.folder)
            if sums is not None:
                self._quarantine_others(sums)
                # Parts too: a worker of a former driver may have committed after _SUCCESS.
                self._add(slots, self._names(DATA, DEAD_LETTER, PARTS))
                return slots
            # A damaged manifest or marker: both are written again, with the final files.
            self.reopen()
        # Without _SUCCESS the final files are those of a compaction that did not end, or of a
        # reopening. In the first case the parts hold all their rows, and the next compaction keeps
        # or replaces them. In the second they may be the only copy, and become parts.
        self._add(slots, self._names(PARTS))
        for name, keys in self._whole(self._names(DATA, DEAD_LETTER), self._read_final_keys):
            if slots.add(name, keys):
                slots.files[-1] = self._to_parts(name)
        return slots

    def inspect(self, inputs: InputIndex, samples: int) -> Slots:
        """The slots as `scan` returns them, without a change to the folder and without the lease:
        another driver may be at work. Raises VersionError.
        """
        check_version(self.folder)
        slots = Slots(inputs, samples)
        sums = published(self.folder)
        names = [
            name
            for name in self._names(PARTS, DATA, DEAD_LETTER)
            if sums is None or name in sums or name.startswith(f"{PARTS}/")
        ]
        for name, keys in self._keys(names, self._read_keys):
            if not isinstance(keys, DamagedError):
                slots.add(name, keys)
        return slots

    def rescan(self, slots: Slots) -> None:
        """Enter the parts that were committed since the scan."""
        known = frozenset(slots.files)
        self._add(slots, [name for name in self._names(PARTS) if name not in known])

    def refuse_changes(self, slots: Slots) -> None:
        """Raises ResumeError if there are committed rows of edited or removed prompts."""
        reasons = [
            f"{rows.count} committed rows {problem}: {', '.join(rows.names)}"
            for rows, problem in (
                (slots.changed, "belong to prompts that were edited since"),
                (slots.removed, "belong to prompts that are not in the input any more"),
            )
            if rows
        ]
        if reasons:
            raise ResumeError(
                f"{self.folder.uri}: {'; '.join(reasons)}. Use another run_dir, or "
                "allow_input_change=true to redo them (old rows go to superseded/)"
            )

    def reopen(self) -> None:
        """Make a finished folder an unfinished one: its final files become parts."""
        # First of all: after a crash the folder must not count as finished with files missing.
        self.folder.delete(SUCCESS)
        failpoint("reopen begins")
        for name in (DATA, DEAD_LETTER):
            for file in self.folder.files(name):
                self._to_parts(file.name)
                failpoint("reopening")

    def delete_parts(self) -> None:
        """Delete the parts of a finished folder, also those that workers of a former driver
        committed late."""
        self.folder.clear(PARTS)

    def compact(self, slots: Slots) -> dict[str, str]:
        """Write data/ and dead_letter/ from the parts; returns the files with their checksums.

        Raises DamagedError if a part was damaged since the scan. The part is moved to quarantine/,
        and a new scan finds its rows missing.
        """
        settings = self.settings
        compactor = Compactor(
            self.folder,
            self.schema,
            slots,
            settings.rows_per_file,
            settings.threads,
            claim=self._claim,
            check=self._check,
        )
        try:
            # Arrays, since a list of numbers takes ten times the memory.
            data = compactor.run(DATA, array("I", slots.in_state(FINISHED)))
            failpoint("between-data-and-dead")
            return data | compactor.run(DEAD_LETTER, array("I", slots.in_state(DEAD)))
        except DamagedError as error:
            if error.file:
                self.quarantine.move(self.folder, error.file, str(error))
            raise

    def supersede(self, slots: Slots) -> str | None:
        """Copy rows of edited and removed prompts to superseded/: their parts will be deleted.

        Returns how many and why, for the user; None where there are none.
        """
        if not slots.changed and not slots.removed:
            return None
        copied = files = 0
        for name, keys in self._whole(self._names(PARTS), self._read_keys):
            columns = ("prompt_id", "sample", "input_fingerprint")
            rows = zip(*(keys[c].to_pylist() for c in columns), strict=True)
            chosen = [n for n, row in enumerate(rows) if not slots.accepts(*row)]
            if chosen:
                copied, files = copied + len(chosen), files + 1
                with open_part(self.folder, name, self.schema) as file:
                    table = file.read().take(chosen)
                base = name.rpartition("/")[2]
                with self.folder.writing(f"{SUPERSEDED}/{base}") as sink:
                    pq.write_table(table, sink, compression="zstd")
        return superseded_report(slots, copied, files)

    def mark_complete(self, described: Mapping[str, Any]) -> None:
        """Write the manifest (see `manifest.describe`), mark the final files as complete, then
        delete the parts. Raises LeaseError."""
        self._check()
        checksum = write_manifest(self.folder, described)
        failpoint("before-success")
        self._check()
        write_marker(self.folder, checksum)
        failpoint("after-success")
        self._check()
        self.delete_parts()

    def parts(self) -> list[str]:
        """The names of all parts."""
        return [file.name for file in self.folder.files(PARTS)]

    def rows(self, columns: Sequence[str], *, final: bool = True) -> Iterator[pa.Table]:
        """Some columns of all rows, a row group at a time: of the final files, or of the parts.

        Raises DamagedError naming the file.
        """
        for name in (DATA, DEAD_LETTER) if final else (PARTS,):
            for entry in self.folder.files(name):
                try:
                    with open_part(self.folder, entry.name, self.schema) as file:
                        for group in range(file.metadata.num_row_groups):
                            yield read(self.folder, file, columns, group)
                except DamagedError as error:
                    raise DamagedError(f"{entry.name}: {error}", entry.name) from error

    def _names(self, *folders: str) -> list[str]:
        return [found.name for sub in folders for found in self.folder.files(sub)]

    def _quarantine_others(self, sums: Mapping[str, str]) -> None:
        """Move final files that the manifest does not list, or with another checksum, to
        quarantine/."""
        for name in self._names(DATA, DEAD_LETTER):
            if name not in sums:
                self.quarantine.move(self.folder, name, f"a final file that is not in {MANIFEST}")
        known = self._names(DATA, DEAD_LETTER)
        with ThreadPoolExecutor(self.settings.threads) as pool:
            for name, found in zip(known, pool.map(self.folder.checksum, known), strict=True):
                if found != sums[name]:
                    reason = f"its checksum is not the one in {MANIFEST}"
                    self.quarantine.move(self.folder, name, reason)

    def _add(self, slots: Slots, names: Sequence[str]) -> None:
        for name, keys in self._whole(names, self._read_keys):
            slots.add(name, keys)

    def _whole(
        self, names: Sequence[str], read: Callable[[str], pa.Table | DamagedError]
    ) -> Iterator[tuple[str, pa.Table]]:
        """The files that are whole and of this run, with their key columns; moves the others to
        quarantine/."""
        for name, keys in self._keys(names, read):
            if isinstance(keys, DamagedError):
                self.quarantine.move(self.folder, name, str(keys))
            else:
                yield name, keys

    def _to_parts(self, name: str) -> str:
        new = f"{PARTS}/{new_name(f'final-{self.folder.checksum(name)}')}"
        self.folder.move(name, new)
        return new

    def _keys(
        self, names: Sequence[str], read: Callable[[str], pa.Table | DamagedError]
    ) -> Iterator[tuple[str, pa.Table | DamagedError]]:
        """Each file with its key columns, or with the reason why it cannot be used."""
        with ThreadPoolExecutor(self.settings.threads) as pool:
            # In chunks: `map` would read all files at once and hold their keys.
            for start in range(0, len(names), 256):
                chunk = names[start : start + 256]
                yield from zip(chunk, pool.map(read, chunk), strict=True)

    def _read_keys(self, name: str) -> pa.Table | DamagedError:
        try:
            check_long_name(self.folder, name)
            return read_keys(self.folder, open_part(self.folder, name, self.schema))
        except DamagedError as error:
            return error
        except FileNotFoundError:  # `inspect` on a folder that another driver compacts
            return DamagedError("deleted since it was listed")

    def _read_final_keys(self, name: str) -> pa.Table | DamagedError:
        """As `_read_keys`, for a final file without a manifest: its footer must name its rows."""
        keys = self._read_keys(name)
        if isinstance(keys, DamagedError):
            return keys
        with open_part(self.folder, name, self.schema) as file:
            named = file.schema_arrow.metadata.get(ROWS)
        columns = ("prompt_id", "sample", "input_fingerprint")
        rows = zip(*(keys[c].to_pylist() for c in columns), strict=True)
        if named != digest_of_rows(digest_of_row(*row) for row in rows):
            return DamagedError("its rows are not those that its footer names")
        return keys
