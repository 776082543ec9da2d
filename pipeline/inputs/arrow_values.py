"""Columns of Arrow as values of an input (see `values`). No type is made into Python's own text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from pipeline.inputs.file import reason
from pipeline.inputs.json_values import decode
from pipeline.inputs.values import Number, Repeated, Unusable

_FLOATS = {2: np.float16, 4: np.float32, 8: np.float64}


def column_values(column: Any) -> list[Any]:
    """The values of an Arrow array, one for each row."""
    if isinstance(column, pa.ChunkedArray):
        return [value for chunk in column.chunks for value in column_values(chunk)]
    if isinstance(column, pa.ExtensionArray) and column.type.extension_name == "arrow.json":
        # As `datasets` stores objects that differ in their keys.
        return [_decoded(text) for text in column_values(column.storage)]
    if isinstance(column, pa.ExtensionArray):
        text = _is_text(column.type.storage_type)
        return column_values(column.storage) if text else _other(column)
    return next((of for is_kind, of in _KINDS if is_kind(column.type)), _other)(column)


def _is_text(kind: Any) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_number(kind: Any) -> bool:
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def _is_list(kind: Any) -> bool:
    return (
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _texts(column: Any) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_text(column, row) for row in range(len(column))]


def _text(column: Any, row: int) -> Any:
    try:
        return column[row].as_py()
    except UnicodeDecodeError as error:
        return Unusable(f"is invalid UTF-8 at byte {error.start}")


def _decoded(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return decode(text)
    except (ValueError, RecursionError) as error:
        return Unusable(f"is malformed JSON: {reason(error)}")


def _number(value: Any, kind: Any) -> Any:
    if types.is_integer(kind):
        return Number(value)
    if types.is_decimal(kind):
        return Number(format(value, "f"))
    if math.isnan(value):
        return None
    if math.isinf(value):
        return Unusable("is infinite")
    # The shortest digits that give this number in its own precision: a float of 32 bits that was
    # written as 0.1 is not 0.10000000149011612.
    return Number(_FLOATS[kind.bit_width // 8](value))


def _numbers(column: Any) -> list[Any]:
    kind = column.type
    return [None if value is None else _number(value, kind) for value in column.to_pylist()]


def _objects(column: Any) -> list[Any]:
    names = [field.name for field in column.type]
    # `flatten` and not `field`: it applies the nulls of the struct to its fields.
    children = [column_values(child) for child in column.flatten()]
    objects: list[Any] = []
    for row in range(len(column)):
        if not column[row].is_valid:
            objects.append(None)
            continue
        values: dict[str, Any] = {}
        for name, child in zip(names, children, strict=True):
            values[name] = Repeated() if name in values else child[row]
        # A table has every field in every object; the null ones are not of this object.
        objects.append({name: value for name, value in values.items() if value is not None})
    return objects


def _lists(column: Any) -> list[Any]:
    values = column_values(column.flatten())
    lists: list[Any] = []
    start = 0
    for length in pc.list_value_length(column).to_pylist():
        lists.append(None if length is None else values[start : start + length])
        start += length or 0
    return lists


def _other(column: Any) -> list[Any]:
    value = Unusable(f"is of the type {column.type}")
    return [value if valid else None for valid in column.is_valid().to_pylist()]


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any], list[Any]]], ...] = (
    (types.is_null, lambda column: [None] * len(column)),
    (_is_text, _texts),
    (_is_number, _numbers),
    (types.is_boolean, lambda column: list(column.to_pylist())),
    (types.is_struct, _objects),
    (_is_list, _lists),
    (types.is_dictionary, lambda column: column_values(column.dictionary_decode())),
    (types.is_run_end_encoded, lambda column: column_values(pc.run_end_decode(column))),
)
