"""Conversations and tools in the rows of an export, in the form that TRL takes.

A turn is a role and a content. Turns that call tools, or hold their results, have further keys, and
a call has arguments of its own: in a struct of Arrow every turn would get all keys of all others,
as nulls, and templates that ask whether a key is there would be misled. So where an export has such
turns, all of its turns are JSON values, which `datasets` gives back as the objects that they were.
Tools are the JSON text of a list, as TRL takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.tables.traces import json_text, turns_of

_PLAIN = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_COLUMNS = ("prompt", "completion", "messages")
# What tells of the two, in the order of `TurnFormat.of`.
_FIELDS = ("tool_calls", "name", "tool_call_id")
READ = ("tools", *(f"prompt.list.element.{field}" for field in _FIELDS))


@dataclass(frozen=True, kw_only=True)
class TurnFormat:
    """Whether a prompt of the export has `tools`, and whether a turn has `calls` or is a result."""

    tools: bool = False
    calls: bool = False

    @classmethod
    def of(cls, table: pa.Table) -> TurnFormat:
        """That of a table with the columns `READ`."""
        turns = table["prompt"].combine_chunks().flatten()
        fields = [turns.field(name) for name in _FIELDS]
        return cls(
            tools=table["tools"].null_count < len(table),
            calls=any(field.null_count < len(field) for field in fields),
        )

    def __or__(self, other: TurnFormat) -> TurnFormat:
        return TurnFormat(tools=self.tools or other.tools, calls=self.calls or other.calls)

    @property
    def type(self) -> pa.DataType:
        """Of a list of turns."""
        return pa.list_(pa.json_()) if self.calls else _PLAIN

    @property
    def fields(self) -> list[tuple[str, Any]]:
        """The further fields of a row with a conversation."""
        return [("tools", pa.string())] if self.tools else []

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a trace that `further` reads."""
        return ("tools",) if self.tools else ()

    def further(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The values of `fields`."""
        return {"tools": row["tools"]} if self.tools else {}

    def read(self, table: pa.Table) -> list[dict[str, Any]]:
        """Traces as mappings; turns as chat templates take them."""
        columns = [name for name in _COLUMNS if name in table.column_names]
        if not self.calls:
            for name in columns:
                at = table.schema.get_field_index(name)
                table = table.set_column(at, name, pc.cast(table[name], _PLAIN))
            return list(table.to_pylist())
        rows: list[dict[str, Any]] = table.to_pylist()
        for row in rows:
            row.update((name, turns_of(row[name])) for name in columns if row[name] is not None)
        return rows

    def table(self, rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
        """Rows of an export as a table of this schema."""
        if not self.calls:
            return pa.Table.from_pylist(rows, schema=schema)
        # Arrow makes no JSON values of objects, but of texts.
        stored = pa.schema([(field.name, _storage(field.type)) for field in schema])
        texts = [{f.name: _stored(row.get(f.name), f.type) for f in schema} for row in rows]
        return pa.Table.from_pylist(texts, schema=stored).cast(schema)


def _storage(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.JsonType):
        return pa.string()
    return pa.list_(_storage(kind.value_type)) if pa.types.is_list(kind) else kind


def _stored(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if isinstance(kind, pa.JsonType):
        return json_text(value)
    if pa.types.is_list(kind):
        return [_stored(below, kind.value_type) for below in value]
    return value
