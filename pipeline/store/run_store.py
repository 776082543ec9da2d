"""The run folder: committed rows, what is missing, and the final files.

    config.yaml    the resolved config        parts/        rows as they are committed
    input.json     how many rows to expect    data/         finished rows, in input order
    models.json    the models of the rows
    manifest.json  counts and checksums       dead_letter/  rows that could not be made
    lease/         the present driver         superseded/   rows of edited or removed prompts
    _VERSION       version of this layout     quarantine/   damaged files, or of other runs
    _SUCCESS       data/ and dead_letter/ are complete

The commit protocol, each step durable before the next begins:

    1. workers write parts; a row is committed once its part is
    2. the driver writes the final files from the parts (compaction)
    3. it writes manifest.json with their checksums, then _SUCCESS
    4. it deletes the parts

A crash at any point loses no committed row: until 3 the parts hold all rows, from 3 on the final
files do. A step that is repeated gives the same files.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DamagedError, ResumeError
from pipeline.store.compact import Compactor
from pipeline.store.failpoints import failpoint
from pipeline.store.input_index import InputIndex
from pipeline.store.parts import (
    PARTS,
    commit,
    marks,
    new_name,
    open_part,
    read,
    read_keys,
)
from pipeline.store.run_folder import open_folder
from pipeline.store.settings import Store
from pipeline.store.slots import DEAD, FINISHED, Slots
from pipeline.store.version import check_version

DATA, DEAD_LETTER, QUARANTINE, SUPERSEDED = "data", "dead_letter", "quarantine", "superseded"
SUCCESS, INPUT, MANIFEST = "_SUCCESS", "input.json", "manifest.json"


class RunStore:
    """The rows of one run folder. `schema` is the table's, with the config's hash in its metadata.

    Pickles to a few strings: each worker gets a copy and commits its rows through it.
    """

    def __init__(self, uri: str, schema: pa.Schema, settings: Store) -> None:
        self.folder = open_folder(uri)
        self.schema = schema
        self.settings = settings

    def write_expected(self, rows: int) -> None:
        """Write how many rows there will be and how to recognise them, for `nabla status`."""
        expected = {"rows": rows} | {k.decode(): v.decode() for k, v in marks(self.schema).items()}
        self.folder.write(INPUT, json.dumps(expected, indent=2).encode())

    def commit(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make rows durable as one part."""
        commit(self.folder, self.schema, rows)

    def is_complete(self) -> bool:
        """Whether the final files are complete."""
        return self.folder.exists(SUCCESS)

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
        if self.is_complete() and self._verified():
            # Parts too: a worker of a former driver may have committed after _SUCCESS.
            self._add(slots, (DATA, DEAD_LETTER, PARTS))
            return slots
        # Without _SUCCESS the final files are those of a compaction that did not end, or of a
        # reopening. In the first case the parts hold all their rows, and the next compaction keeps
        # or replaces them. In the second they may be the only copy, and become parts.
        self._add(slots, (PARTS,))
        for name, keys in self._whole((DATA, DEAD_LETTER)):
            if slots.add(name, keys):
                slots.files[-1] = self._to_parts(name)
        return slots

    def inspect(self, inputs: InputIndex, samples: int) -> Slots:
        """The slots as `scan` returns them, without a change to the folder and without the lease:
        another driver may run. Raises VersionError.
        """
        check_version(self.folder)
        slots = Slots(inputs, samples)
        for name, keys in self._keys((PARTS, DATA, DEAD_LETTER)):
            if not isinstance(keys, DamagedError):
                slots.add(name, keys)
        return slots

    def rescan(self, slots: Slots) -> None:
        """Enter the parts that were committed since the scan."""
        self._add(slots, (PARTS,), frozenset(slots.files))

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
            self.folder, self.schema, slots, settings.rows_per_file, settings.threads
        )
        try:
            # Arrays, since a list of numbers takes ten times the memory.
            data = compactor.run(DATA, array("I", slots.in_state(FINISHED)))
            failpoint("between-data-and-dead")
            return data | compactor.run(DEAD_LETTER, array("I", slots.in_state(DEAD)))
        except DamagedError as error:
            if error.file:
                self._quarantine(error.file, str(error))
            raise

    def supersede(self, slots: Slots) -> None:
        """Copy rows of edited and removed prompts to superseded/: their parts will be deleted."""
        if not slots.changed and not slots.removed:
            return
        for name, keys in self._whole((PARTS,)):
            columns = ("prompt_id", "sample", "input_fingerprint")
            rows = zip(*(keys[c].to_pylist() for c in columns), strict=True)
            chosen = [n for n, row in enumerate(rows) if not slots.accepts(*row)]
            if chosen:
                with open_part(self.folder, name, self.schema) as file:
                    table = file.read().take(chosen)
                base = name.rpartition("/")[2]
                with self.folder.writing(f"{SUPERSEDED}/{base}") as sink:
                    pq.write_table(table, sink, compression="zstd")

    def mark_complete(self) -> None:
        """Mark the final files as complete, then delete the parts."""
        failpoint("before-success")
        self.folder.write(SUCCESS, b"")
        failpoint("after-success")
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

    def _verified(self) -> bool:
        """Compare the final files with the checksums in the manifest; altered ones go to
        quarantine/. Without a readable manifest the folder is reopened, which writes files and
        manifest again, and the result is False.
        """
        try:
            sums: dict[str, str] = json.loads(self.folder.read(MANIFEST))["checksums"]
        except (FileNotFoundError, ValueError, KeyError):
            self.reopen()
            return False
        # A file without a checksum in the manifest is examined by `_whole`, as any other.
        present = [f.name for sub in (DATA, DEAD_LETTER) for f in self.folder.files(sub)]
        known = [name for name in present if name in sums]
        with ThreadPoolExecutor(self.settings.threads) as pool:
            for name, checksum in zip(known, pool.map(self.folder.checksum, known), strict=True):
                if checksum != sums[name]:
                    self._quarantine(name, f"its checksum is not the one in {MANIFEST}")
        return True

    def _add(self, slots: Slots, folders: Sequence[str], but: frozenset[str] = frozenset()) -> None:
        for name, keys in self._whole(folders, but):
            slots.add(name, keys)

    def _whole(
        self, folders: Sequence[str], but: frozenset[str] = frozenset()
    ) -> Iterator[tuple[str, pa.Table]]:
        """The files that are whole and of this run, with their key columns; moves the others to
        quarantine/."""
        for name, keys in self._keys(folders, but):
            if isinstance(keys, DamagedError):
                self._quarantine(name, str(keys))
            else:
                yield name, keys

    def _to_parts(self, name: str) -> str:
        new = f"{PARTS}/{new_name('final')}"
        self.folder.move(name, new)
        return new

    def _keys(
        self, folders: Sequence[str], but: frozenset[str] = frozenset()
    ) -> Iterator[tuple[str, pa.Table | DamagedError]]:
        """Each file with its key columns, or with the reason why it cannot be used."""
        names = [f.name for sub in folders for f in self.folder.files(sub) if f.name not in but]
        with ThreadPoolExecutor(self.settings.threads) as pool:
            # In chunks: `map` would read all files at once and hold their keys.
            for start in range(0, len(names), 256):
                chunk = names[start : start + 256]
                yield from zip(chunk, pool.map(self._read_keys, chunk), strict=True)

    def _read_keys(self, name: str) -> pa.Table | DamagedError:
        try:
            return read_keys(self.folder, open_part(self.folder, name, self.schema))
        except DamagedError as error:
            return error
        except FileNotFoundError:  # `inspect` on a folder that another driver compacts
            return DamagedError("deleted since it was listed")

    def _quarantine(self, name: str, reason: str) -> None:
        base = name.replace("/", "-")
        self.folder.move(name, f"{QUARANTINE}/{base}")
        self.folder.write(f"{QUARANTINE}/{base}.reason.txt", f"{reason}\n".encode())
