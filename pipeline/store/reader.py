"""Rows of runs as the input of another job. Imports neither torch nor ray."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError, StoreError, VersionError
from pipeline.store.checks.version import check_version
from pipeline.store.files import File, Folder
from pipeline.store.final import DATA, MANIFEST, SUCCESS, published
from pipeline.store.parts import KIND, PARTS


def finished_rows(
    path: str, schema: pa.Schema, *, allow_partial: bool = False
) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of a finished run whose table has this schema, in order, each with the file and
    row number that an error about it names. With `allow_partial` a run that is not finished gives
    the rows that it has committed, each once.

    Raises InputError naming folder or file, also where the table is of another version.
    """
    expected = schema.metadata[KIND].decode()
    kind = expected.partition("/")[0]
    try:
        folder = Folder(path)
        check_version(folder)
        complete = folder.exists(SUCCESS)
        if not complete and not allow_partial:
            partial = " (allow_partial takes its committed rows)" if folder.files(PARTS) else ""
            raise InputError(f"{path} is no finished run folder of {kind}{partial}")
        # The final files too: after a reopening they may hold the only copy of a row.
        committed = () if complete else (*folder.files(DATA), *folder.files(PARTS))
        if not complete and not committed:
            raise InputError(f"{path} is no run folder of {kind} with committed rows")
        seen: set[tuple[str, int]] = set()
        for part in final_files(folder) if complete else committed:
            with folder.fs.open_input_file(folder.path(part.name)) as source:
                file = pq.ParquetFile(source, page_checksum_verification=True)
                check_table(file.schema_arrow, schema, f"{path}/{part.name}")
                number = 0
                for batch in file.iter_batches(batch_size=1024):
                    for row in batch.to_pylist():
                        number += 1
                        if not complete:
                            key = (row["prompt_id"], row["sample"])
                            if row["error"] is not None or key in seen:
                                continue  # a dead letter, or a row that was committed twice
                            seen.add(key)
                        yield row, f"{path}/{part.name} row {number}"
    except VersionError as error:
        raise InputError(str(error)) from error
    except (OSError, ValueError, ImportError, StoreError, pa.ArrowException) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def check_table(found: pa.Schema, schema: pa.Schema, name: str) -> None:
    """Raises InputError where the schema of a file is of another table, or of another version of
    the table."""
    expected = schema.metadata[KIND].decode()
    mark = (found.metadata or {}).get(KIND, b"?").decode()
    if mark.partition("/")[0] != expected.partition("/")[0]:
        raise InputError(f"{name} holds {mark}, not {expected.partition('/')[0]}")
    if mark != expected:
        raise InputError(
            f"{name} holds rows of {mark}, and this release reads {expected}: make them again, or "
            "use the release that made them"
        )


def final_files(folder: Folder) -> list[File]:
    """The files in data/ of a finished run folder, which must be those of its manifest. Raises
    InputError."""
    checksums = published(folder)
    remedy = "give the command that made the run again"
    if checksums is None:
        raise InputError(f"{folder.uri}: {MANIFEST} or {SUCCESS} is damaged; {remedy}")
    files = folder.files(DATA)
    listed = {name for name in checksums if name.startswith(f"{DATA}/")}
    for name in sorted(listed.symmetric_difference(file.name for file in files)):
        what = "missing" if name in listed else f"not in {MANIFEST}"
        raise InputError(f"{folder.uri}/{name} is {what}; {remedy}")
    return files
