"""Rows of finished runs, read as the data of another job. Nothing here imports torch or ray."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError, StoreError
from pipeline.store.files import Folder
from pipeline.store.parts import KIND
from pipeline.store.run_store import DATA, SUCCESS


def finished_rows(path: str, kind: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Rows of a finished run of that kind, in order, each with its place.

    Raises InputError naming folder or file.
    """
    try:
        folder = Folder(path)
        if not folder.exists(SUCCESS):
            raise InputError(f"{path} is no finished run folder of {kind}")
        for found in folder.files(DATA):
            with folder.fs.open_input_file(folder.path(found.name)) as source:
                file = pq.ParquetFile(source, page_checksum_verification=True)
                mark = (file.schema_arrow.metadata or {}).get(KIND, b"?").decode()
                if mark.partition("/")[0] != kind:
                    raise InputError(f"{path}/{found.name} holds {mark}, not {kind}")
                number = 0
                for batch in file.iter_batches(batch_size=1024):
                    for row in batch.to_pylist():
                        number += 1
                        yield row, f"{path}/{found.name} row {number}"
    except (OSError, ValueError, ImportError, StoreError, pa.ArrowException) as error:
        raise InputError(f"cannot read {path}: {error}") from error
