"""The run folder: what is committed, what is missing, and the final files.

    config.yaml     the resolved config      data/         finished rows, in input order
    input.json      how many rows there will be
    manifest.json   counts, checksums        dead_letter/  rows that could not be made
    parts/          rows as they finish      quarantine/    damaged or foreign files
    lease/          who drives               superseded/   rows of edited or removed prompts
    _VERSION        of this layout           _SUCCESS      the final files are whole

A row counts as committed once its part is. Parts are deleted only after `_SUCCESS`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DamagedError, ResumeError
from pipeline.store.compact import Compactor
from pipeline.store.failpoints import failpoint
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
    """The rows of one run folder. `schema` is the table's, marked with the run's config.

    Pickles to a few strings, so workers get one and `commit` through it.
    """

    def __init__(self, uri: str, schema: pa.Schema, settings: Store) -> None:
        self.folder = open_folder(uri)
        self.schema = schema
        self.settings = settings

    def announce(self, rows: int) -> None:
        """Leave word for `jobs.status` of how many rows there will be, and which are ours."""
        told = {"rows": rows} | {k.decode(): v.decode() for k, v in marks(self.schema).items()}
        self.folder.write(INPUT, json.dumps(told, indent=2).encode())

    def commit(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make rows durable as one part."""
        commit(self.folder, self.schema, rows)

    def done(self) -> bool:
        """Whether the last run over this folder came to its end."""
        return self.folder.exists(SUCCESS)

    def sweep(self) -> None:
        """Delete unfinished files of drivers and workers that died. Needs the lease."""
        for name in (PARTS, DATA, DEAD_LETTER, SUPERSEDED, ""):
            for found in self.folder.unfinished(name):
                self.folder.delete(found.name)

    def scan(self, inputs: Mapping[str, str], samples: int) -> Slots:
        """Where every row of the input stands, by what the files hold.

        Files that are torn, altered or not ours are moved to quarantine/. Of an unfinished
        folder the parts count; a final file that knows rows no part does becomes one.
        """
        slots = Slots(inputs, samples)
        if self.done() and self._verified():
            self._add(slots, (DATA, DEAD_LETTER, PARTS))
            return slots
        self._add(slots, (PARTS,))
        for name, keys in self._whole((DATA, DEAD_LETTER)):
            if slots.add(name, keys):
                slots.files[-1] = self._to_parts(name)
        return slots

    def look(self, inputs: Mapping[str, str], samples: int) -> Slots:
        """As `scan`, but changes nothing: the folder may be another driver's.

        Raises VersionError.
        """
        check_version(self.folder)
        slots = Slots(inputs, samples)
        for name, keys in self._keys((PARTS, DATA, DEAD_LETTER)):
            if not isinstance(keys, DamagedError):
                slots.add(name, keys)
        return slots

    def rescan(self, slots: Slots) -> None:
        """Enter the parts that were committed since."""
        self._add(slots, (PARTS,), frozenset(slots.files))

    def refuse_changes(self, slots: Slots) -> None:
        """Raises ResumeError where committed rows do not belong to this input."""
        told = [
            f"{len(names)} committed rows {what}: {', '.join(names[:3])}"
            for names, what in (
                (slots.changed, "belong to prompts that were edited since"),
                (slots.vanished, "belong to prompts that are not in the input any more"),
            )
            if names
        ]
        if told:
            raise ResumeError(
                f"{self.folder.uri}: {'; '.join(told)}. Use another run_dir, or "
                "allow_input_change=true to redo them (old rows go to superseded/)"
            )

    def reopen(self) -> None:
        """Make a finished folder one that is being worked on: final files become parts."""
        self.folder.delete(SUCCESS)
        failpoint("reopen begins")
        for name in (DATA, DEAD_LETTER):
            for found in self.folder.files(name):
                self._to_parts(found.name)
                failpoint("reopening")

    def tidy(self) -> None:
        """Delete what a finished folder does not need any more: parts, among them those that
        workers of a dead driver committed late."""
        self.folder.clear(PARTS)

    def compact(self, slots: Slots) -> dict[str, str]:
        """Write data/ and dead_letter/ from the parts; returns the files with their checksums.

        Raises DamagedError where a part turns out not to be whole; it is then set aside,
        and a new scan finds its rows missing.
        """
        settings = self.settings
        compactor = Compactor(
            self.folder, self.schema, slots, settings.rows_per_file, settings.threads
        )
        try:
            data = compactor.run(DATA, list(slots.in_state(FINISHED)))
            failpoint("between-data-and-dead")
            return data | compactor.run(DEAD_LETTER, list(slots.in_state(DEAD)))
        except DamagedError as error:
            if error.file:
                self._quarantine(error.file, str(error))
            raise

    def supersede(self, slots: Slots) -> None:
        """Keep what an edited input replaced: parts with such rows go to superseded/."""
        if not slots.changed and not slots.vanished:
            return
        for name, keys in self._whole((PARTS,)):
            columns = ("prompt_id", "sample", "input_fingerprint")
            rows = zip(*(keys[c].to_pylist() for c in columns), strict=True)
            chosen = [n for n, row in enumerate(rows) if not slots.belongs(*row)]
            if chosen:
                with open_part(self.folder, name, self.schema) as file:
                    table = file.read().take(chosen)
                base = name.rpartition("/")[2]
                with self.folder.writing(f"{SUPERSEDED}/{base}") as sink:
                    pq.write_table(table, sink, compression="zstd")

    def succeed(self) -> None:
        """Mark the final files as whole, then delete the parts they were made of."""
        failpoint("before-success")
        self.folder.write(SUCCESS, b"")
        failpoint("after-success")
        self.tidy()

    def parts(self) -> list[str]:
        """The names of all parts."""
        return [found.name for found in self.folder.files(PARTS)]

    def rows(self, columns: Sequence[str], *, final: bool = True) -> Iterator[pa.Table]:
        """Some columns of all rows, a row group at a time: of the final files, or of parts."""
        for name in (DATA, DEAD_LETTER) if final else (PARTS,):
            for found in self.folder.files(name):
                try:
                    with open_part(self.folder, found.name, self.schema) as file:
                        for group in range(file.metadata.num_row_groups):
                            yield read(self.folder, file, columns, group)
                except DamagedError as error:
                    raise DamagedError(f"{found.name}: {error}") from error

    def _verified(self) -> bool:
        """Set aside final files that are not as they were written. Where no manifest says how
        that was (False), the folder is reopened: files and manifest are written anew."""
        try:
            sums: dict[str, str] = json.loads(self.folder.read(MANIFEST))["checksums"]
        except (FileNotFoundError, ValueError, KeyError):
            self.reopen()
            return False
        there = [f.name for sub in (DATA, DEAD_LETTER) for f in self.folder.files(sub)]
        known = [name for name in there if name in sums]
        with ThreadPoolExecutor(self.settings.threads) as pool:
            for name, found in zip(known, pool.map(self.folder.checksum, known), strict=True):
                if found != sums[name]:
                    self._quarantine(name, f"its checksum is not the one in {MANIFEST}")
        return True

    def _add(self, slots: Slots, folders: Sequence[str], but: frozenset[str] = frozenset()) -> None:
        for name, keys in self._whole(folders, but):
            slots.add(name, keys)

    def _whole(
        self, folders: Sequence[str], but: frozenset[str] = frozenset()
    ) -> Iterator[tuple[str, pa.Table]]:
        """The files that are whole and ours; others are set aside."""
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
        """File by file, the columns a resume needs, or why the file is of no use."""
        names = [f.name for sub in folders for f in self.folder.files(sub) if f.name not in but]
        with ThreadPoolExecutor(self.settings.threads) as pool:
            for start in range(0, len(names), 256):
                chunk = names[start : start + 256]
                yield from zip(chunk, pool.map(self._read_keys, chunk), strict=True)

    def _read_keys(self, name: str) -> pa.Table | DamagedError:
        try:
            return read_keys(self.folder, open_part(self.folder, name, self.schema))
        except DamagedError as error:
            return error
        except FileNotFoundError:  # another driver's compaction, where this one only looks
            return DamagedError("gone since it was listed")

    def _quarantine(self, name: str, reason: str) -> None:
        base = name.replace("/", "-")
        self.folder.move(name, f"{QUARANTINE}/{base}")
        self.folder.write(f"{QUARANTINE}/{base}.reason.txt", f"{reason}\n".encode())
