"""Part files: a few rows made durable at once, and proof that they are whole.

A part is a Parquet file with page checksums. Its footer comes last, so a torn file has
none; its schema carries the kind of row and the config it was made under, so a file that
does not belong here is known for one.
"""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.files import Folder

PARTS = "parts"
SUFFIX = ".parquet"
KIND, CONFIG = b"nabla_schema", b"nabla_config"
KEY_COLUMNS = ("prompt_id", "sample", "input_fingerprint", "created_at", "error")


class DamagedError(Exception):
    """A file of the run folder is torn, altered or not ours; the message says how."""


def with_config(schema: pa.Schema, config_hash: str) -> pa.Schema:
    """The schema as the files of one run carry it."""
    return schema.with_metadata({**(schema.metadata or {}), CONFIG: config_hash.encode()})


def new_name() -> str:
    """A file name nobody else uses; names sort by time. No part is ever overwritten."""
    return f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}{SUFFIX}"


def commit(folder: Folder, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as one part, durably, and return its name."""
    name = f"{PARTS}/{new_name()}"
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(list(rows), schema=schema)
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )
    folder.write(name, buffer.getvalue())
    return name


def marks(schema: pa.Schema) -> dict[bytes, bytes]:
    """What tells the files of one run from others: kind of row and config."""
    return {field: schema.metadata[field] for field in (KIND, CONFIG)}


def open_marked(folder: Folder, name: str, wanted: Mapping[bytes, bytes]) -> pq.ParquetFile:
    """A file that is whole and bears these marks. Raises DamagedError."""
    try:
        file = pq.ParquetFile(
            folder.fs.open_input_file(folder.path(name)), page_checksum_verification=True
        )
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(f"no readable Parquet footer: {error}") from error
    found = file.schema_arrow.metadata or {}
    for field, value in wanted.items():
        if found.get(field) != value:
            file.close(force=True)
            raise DamagedError(f"made by another run ({field.decode()} differs)")
    return file


def open_part(folder: Folder, name: str, schema: pa.Schema) -> pq.ParquetFile:
    """A file of the run whose rows have this schema. Raises DamagedError."""
    file = open_marked(folder, name, marks(schema))
    if not file.schema_arrow.equals(schema, check_metadata=False):
        file.close(force=True)
        raise DamagedError("another schema")
    return file


def read_keys(file: pq.ParquetFile) -> pa.Table:
    """The columns a resume needs, of all rows; closes the file. Raises DamagedError."""
    try:
        return file.read(columns=list(KEY_COLUMNS))
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(f"unreadable: {error}") from error
    finally:
        file.close(force=True)
