"""Part files: a few rows that are made durable together.

A part is a Parquet file whose name ends in the checksum of its bytes. Parquet's own checksums
cover the pages, but neither their headers nor the footer. A final file that became a part again has
a longer checksum, which is computed in blocks: the file may not fit into memory. The metadata of a
part's schema holds the kind of row and the hash of the config, so that a file of another run is
recognised.
"""

from __future__ import annotations

import io
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DamagedError
from pipeline.store.files import Folder

PARTS = "parts"
SUFFIX = ".parquet"
KIND, CONFIG = b"nabla_schema", b"nabla_config"
# Metadata of a final file: `digest_of_rows` of its rows.
ROWS = b"nabla_rows"
# What a resume reads of every row: which slot it fills, and in which state.
KEY_COLUMNS = ("prompt_id", "sample", "input_fingerprint", "created_at", "error")

_CHECKSUM_IN_NAME = re.compile(r"-([0-9a-f]{16})\.parquet$")
_LONG_CHECKSUM_IN_NAME = re.compile(r"-([0-9a-f]{32})\.parquet$")


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
    if expected is None:
        if name.startswith(f"{PARTS}/") and not _LONG_CHECKSUM_IN_NAME.search(name):
            raise DamagedError("a part without a checksum in its name")
        file = folder.retrying(lambda: _parse(folder, name))
    else:
        data = folder.read(name)
        if _checksum(data) != expected[1]:
            raise DamagedError("its checksum is not the one in its name")
        with _damaged_if_undecodable():
            file = pq.ParquetFile(pa.BufferReader(data))
    try:
        with _damaged_if_undecodable():
            metadata = file.schema_arrow.metadata or {}
        for field, value in expected_marks.items():
            if metadata.get(field) != value:
                raise DamagedError(f"made by another run ({field.decode()} differs)")
    except DamagedError:
        file.close(force=True)
        raise
    return file


def check_long_name(folder: Folder, name: str) -> None:
    """Compare a file whose name has a long checksum with it. Raises DamagedError."""
    expected = _LONG_CHECKSUM_IN_NAME.search(name)
    if expected is not None and folder.checksum(name) != expected[1]:
        raise DamagedError("its checksum is not the one in its name")


@contextmanager
def _damaged_if_undecodable() -> Iterator[None]:
    """Turn what pyarrow raises about damaged bytes into DamagedError: its own errors, and Python's
    where a text in the footer is no UTF-8 or a number is too large."""
    try:
        yield
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise DamagedError(f"no readable Parquet footer: {error}") from error


def _parse(folder: Folder, name: str) -> pq.ParquetFile:
    source = folder.fs.open_input_file(folder.path(name))
    try:
        with _damaged_if_undecodable():
            return pq.ParquetFile(source, page_checksum_verification=True)
    except (DamagedError, OSError) as error:
        with source:
            source.seek(0)
            # Arrow raises the same error for a torn file and for a failing network. Reading all
            # bytes tells them apart: it raises if the network is the cause.
            while source.read(1 << 20):
                continue
        if isinstance(error, DamagedError):
            raise
        raise DamagedError(f"no readable Parquet footer: {error}") from error


def open_part(folder: Folder, name: str, schema: pa.Schema) -> pq.ParquetFile:
    """Open a file of the run whose rows have this schema. Raises as `open_marked` does."""
    file = open_marked(folder, name, marks(schema))
    try:
        with _damaged_if_undecodable():
            same = file.schema_arrow.equals(schema, check_metadata=False)
        if not same:
            raise DamagedError("another schema")
    except DamagedError:
        file.close(force=True)
        raise
    return file


def digest_of_rows(digests: Iterable[str]) -> bytes:
    """A digest of rows in order, of each `input_index.digest_of_row`."""
    digest = blake2b(digest_size=16)
    for each in digests:
        digest.update(each.encode())
    return digest.hexdigest().encode()


def read(folder: Folder, file: pq.ParquetFile, columns: Sequence[str], group: int) -> pa.Table:
    """Some columns of a row group. Raises DamagedError; OSError as `open_marked` does."""
    try:
        return folder.retrying(lambda: file.read_row_group(group, columns=list(columns)))
    except (pa.ArrowException, ValueError, OverflowError) as error:
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
        if not groups:
            raise DamagedError("no rows")
        return pa.concat_tables([read(folder, file, KEY_COLUMNS, group) for group in groups])


def _checksum(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()
