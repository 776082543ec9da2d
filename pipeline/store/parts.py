"""Part files: a few rows that are made durable together.

A part is a Parquet file whose name ends in the checksum of its bytes. Parquet's own checksums
cover the pages, but neither their headers nor the footer. The metadata of a part's schema holds
the kind of row and the hash of the config, so that a file of another run is recognised.
"""

from __future__ import annotations

import io
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DamagedError
from pipeline.store.files import Folder

PARTS = "parts"
SUFFIX = ".parquet"
KIND, CONFIG = b"nabla_schema", b"nabla_config"
# What a resume reads of every row: which slot it fills, and in which state.
KEY_COLUMNS = ("prompt_id", "sample", "input_fingerprint", "created_at", "error")

_CHECKSUM_IN_NAME = re.compile(r"-([0-9a-f]{16})\.parquet$")


def with_config(schema: pa.Schema, config_hash: str) -> pa.Schema:
    """The schema with the hash of a run's config in its metadata."""
    return schema.with_metadata({**(schema.metadata or {}), CONFIG: config_hash.encode()})


def new_name(mark: str) -> str:
    """A file name that no other call returns, in any process; names sort by time. So no part is
    ever overwritten, and a worker needs no agreement with others.
    """
    return f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}-{mark}{SUFFIX}"


def commit(folder: Folder, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as one part, durably, and return its name.

    Once this returns, a crash of any process or machine loses none of the rows.
    """
    # In memory first: the name contains the checksum, and a failed upload can be repeated.
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
    data = buffer.getvalue()
    name = f"{PARTS}/{new_name(_checksum(data))}"
    folder.write(name, data)
    return name


def marks(schema: pa.Schema) -> dict[bytes, bytes]:
    """The metadata by which files of one run are recognised: kind of row and config."""
    return {field: schema.metadata[field] for field in (KIND, CONFIG)}


def open_marked(folder: Folder, name: str, expected_marks: Mapping[bytes, bytes]) -> pq.ParquetFile:
    """Open a file after checking that it is whole and that its metadata holds `expected_marks`.

    Raises DamagedError, and OSError if the file cannot be fetched.
    """
    expected = _CHECKSUM_IN_NAME.search(name)
    if expected is None:  # a final file; its checksum is in the manifest
        file = folder.retrying(lambda: _parse(folder, name))
    else:
        data = folder.read(name)
        if _checksum(data) != expected[1]:
            raise DamagedError("its checksum is not the one in its name")
        file = pq.ParquetFile(pa.BufferReader(data))
    metadata = file.schema_arrow.metadata or {}
    for field, value in expected_marks.items():
        if metadata.get(field) != value:
            file.close(force=True)
            raise DamagedError(f"made by another run ({field.decode()} differs)")
    return file


def _parse(folder: Folder, name: str) -> pq.ParquetFile:
    source = folder.fs.open_input_file(folder.path(name))
    try:
        return pq.ParquetFile(source, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        with source:
            source.seek(0)
            # Arrow raises the same error for a torn file and for a failing network. Reading all
            # bytes tells them apart: it raises if the network is the cause.
            while source.read(1 << 20):
                continue
        raise DamagedError(f"no readable Parquet footer: {error}") from error


def open_part(folder: Folder, name: str, schema: pa.Schema) -> pq.ParquetFile:
    """Open a file of the run whose rows have this schema. Raises as `open_marked` does."""
    file = open_marked(folder, name, marks(schema))
    if not file.schema_arrow.equals(schema, check_metadata=False):
        file.close(force=True)
        raise DamagedError("another schema")
    return file


def read(folder: Folder, file: pq.ParquetFile, columns: Sequence[str], group: int) -> pa.Table:
    """Some columns of a row group. Raises DamagedError; OSError as `open_marked` does."""
    try:
        return folder.retrying(lambda: file.read_row_group(group, columns=list(columns)))
    except pa.ArrowException as error:
        raise DamagedError(f"unreadable: {error}") from error
    except OSError as error:
        # Arrow reports a wrong page checksum as an OSError, as it does a failing network.
        if folder.local or "CRC" in str(error):
            raise DamagedError(f"unreadable: {error}") from error
        raise


def read_keys(folder: Folder, file: pq.ParquetFile) -> pa.Table:
    """`KEY_COLUMNS` of all rows; closes the file. Raises as `read` does."""
    with file:
        groups = range(file.metadata.num_row_groups)
        return pa.concat_tables([read(folder, file, KEY_COLUMNS, group) for group in groups])


def _checksum(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()
