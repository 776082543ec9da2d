"""Columns of a table as a browser reads them."""

import pyarrow as pa
import pytest

from pipeline.report.columns import Columns, values
from pipeline.report.scripts import json_script
from tests.pipeline.report import sites
from tests.pipeline.report.chunks import rows_in

TURN = pa.struct([("role", pa.string()), ("ids", pa.list_(pa.int32())), ("hidden", pa.int32())])
ROWS = [
    {"text": "a", "ids": [1, 2, -3], "logp": [-0.1234, None], "turns": [], "turn": None},
    {"text": None, "ids": None, "logp": [], "turns": None, "turn": {"role": "x", "ids": [7]}},
    {
        "text": "\u2028é", "ids": [], "logp": None, "turn": {"role": None, "ids": None},
        "turns": [{"role": "u", "ids": [4, 5]}, None, {"role": None, "ids": []}],
    },
]  # fmt: skip
SCHEMA = pa.schema(
    [
        ("text", pa.string()), ("ids", pa.list_(pa.int32())), ("logp", pa.list_(pa.float32())),
        ("turns", pa.list_(TURN)), ("turn", TURN),
    ]
)  # fmt: skip


@pytest.mark.parametrize("rows", [slice(0, 3), slice(1, 3), slice(2, 3), slice(1, 1)])
def test_lists_structs_and_nulls_of_any_slice_are_those_of_the_table(rows):
    table = pa.Table.from_pylist(ROWS, schema=SCHEMA).combine_chunks()[rows]
    columns = Columns()
    made = {n: columns.column(table[n].combine_chunks(), ("hidden",)) for n in SCHEMA.names}
    expected = [{**row, "logp": row["logp"] and [-0.123, None]} for row in ROWS[rows]]
    assert rows_in(columns.packed({"rows": made})) == expected


def test_numbers_that_are_none_are_null_in_any_script(tmp_path):
    value = {"a": [0.5, float("nan")], "b": {"c": -float("inf")}, "d": (1, None, "NaN")}
    (tmp_path / "x.js").write_bytes(json_script("x", value))
    expected = {"a": [0.5, None], "b": {"c": None}, "d": [1, None, "NaN"]}
    assert sites.values(tmp_path / "x.js") == expected


def test_numbers_that_are_none_are_null():
    floats = pa.array([0.5, None, float("nan"), float("inf")])
    assert values(floats) == [0.5, None, None, None]
    assert values(pa.array([1, None])) == [1, None]
    assert values(pa.array([True, None])) == [True, None]
    assert values(pa.array([2**62])) == [2**62]
