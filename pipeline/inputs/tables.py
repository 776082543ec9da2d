"""Rows of Parquet files and of Arrow tables. Columns that no prompt is made of are not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.inputs.arrow_values import column_values
from pipeline.inputs.file import File, Row, reason
from pipeline.inputs.values import Repeated

BATCH_ROWS = 1024


def parquet_rows(file: File, wanted: frozenset[str]) -> Iterator[Row]:
    """The rows of a Parquet file, with the wanted columns alone. Raises InputError."""
    number = 0
    try:
        with file.filesystem.open_input_file(file.path) as source:
            # Where the writer stored checksums of pages, flipped bits are noticed.
            table = pq.ParquetFile(source, page_checksum_verification=True)
            names = tuple(table.schema_arrow.names)
            columns = [name for name in dict.fromkeys(names) if name in wanted]
            for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=columns):
                for row in batch_rows(batch, names, wanted, file.label, number):
                    number += 1
                    yield row
    except InputError:
        raise
    except Exception as error:
        after = f" after row {number}" if number else ""
        raise InputError(f"cannot read {file.label}{after}: {reason(error)}") from error


def batch_rows(
    batch: Any, names: tuple[str, ...], wanted: frozenset[str], label: str, before: int
) -> Iterator[Row]:
    """The rows of an Arrow batch or table behind `before` rows of the same input. `names`: all
    columns of the input."""
    repeated = {name for name, count in Counter(names).items() if count > 1}
    columns: dict[str, list[Any]] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name in repeated:
            values = [Repeated("is given by two columns of that name")] * batch.num_rows
        else:
            values = column_values(column)
        if name in wanted:
            columns[name] = values
    for row in range(batch.num_rows):
        yield Row(
            {name: values[row] for name, values in columns.items()},
            f"{label} row {before + row + 1}",
            names,
        )
