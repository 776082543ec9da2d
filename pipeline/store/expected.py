"""input.json: how many rows a run will have, and how its files are recognised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.store.files import MALFORMED, Folder

INPUT = "input.json"


@dataclass(frozen=True)
class Expected:
    """`rows` of the finished run; `marks` are the metadata of its files (see `parts.marks`)."""

    rows: int
    marks: Mapping[bytes, bytes]


def write_expected(folder: Folder, expected: Expected) -> None:
    """Write input.json, for `nabla status`."""
    marks = {field.decode(): value.decode() for field, value in expected.marks.items()}
    folder.write(INPUT, json.dumps({"rows": expected.rows} | marks, indent=2).encode())


def read_expected(folder: Folder) -> Expected | None:
    """What input.json says; None if it is missing or damaged. A driver writes it again."""
    try:
        content = json.loads(folder.read(INPUT))
        rows = content.pop("rows")
        marks = {field.encode(): value.encode() for field, value in content.items()}
    except (FileNotFoundError, *MALFORMED):
        return None
    return Expected(rows, marks) if type(rows) is int and rows >= 0 else None
