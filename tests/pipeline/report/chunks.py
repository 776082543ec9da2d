"""Chunks of rows, read as their page reads them: see `pipeline.report.columns`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def rows_in(data: bytes) -> list[dict[str, Any]]:
    """The rows of a chunk."""
    chunk, start = chunk_in(data)
    return _rows(chunk["rows"], data[start:])


def chunk_in(data: bytes) -> tuple[dict[str, Any], int]:
    """The JSON of a chunk, and where its arrays begin."""
    start = 4 + int.from_bytes(data[:4], "little")
    assert start % 4 == 0
    return json.loads(data[4:start]), start


def _rows(columns: Mapping[str, Any], arrays: bytes) -> list[Any]:
    found = {name: _values(column, arrays) for name, column in columns.items()}
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def _values(column: Any, arrays: bytes) -> list[Any]:
    if isinstance(column, list):
        return column
    if "fields" in column:
        rows = _rows(column["fields"], arrays)
        for missing in column["missing"]:
            rows[missing] = None
        return rows
    sizes = column["sizes"]
    if "type" in column:
        total = sum(size for size in sizes if size > 0)
        numbers = np.frombuffer(arrays, "<" + column["type"], total, column["at"]).tolist()
        listed = [None if math.isnan(number) else round(number, 3) for number in numbers]
    else:
        listed = _values(column["of"], arrays)
    ends = np.cumsum([max(size, 0) for size in sizes]).tolist()
    of = zip(sizes, ends, strict=True)
    return [None if size < 0 else listed[end - size : end] for size, end in of]
