"""A column of each type of Arrow, and what its first value is as an answer."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Sequence
from typing import Any

import pyarrow as pa


def _column(values: Sequence[Any], kind: Any, through: Any = None) -> Any:
    column = pa.array([*values, None], through or kind)
    return column if through is None else column.cast(kind)


# The first value as a text, where it is a text or a number; the second is missing.
COLUMNS: tuple[tuple[Any, str | None], ...] = (
    *((_column(["7"], kind), "7") for kind in (pa.string(), pa.large_string(), pa.string_view())),
    (_column(["7"], pa.string()).dictionary_encode(), "7"),
    *(
        (_column([7], kind), "7")
        for sign in ("int", "uint")
        for kind in (getattr(pa, f"{sign}{bits}")() for bits in (8, 16, 32, 64))
    ),
    *((_column([0.5], kind), "0.5") for kind in (pa.float16(), pa.float32(), pa.float64())),
    (_column([0.1], pa.float32()), "0.1"),
    *(
        (_column([decimal.Decimal("1.10")], kind(9, 2)), "1.10")
        for kind in (pa.decimal32, pa.decimal64, pa.decimal128, pa.decimal256)
    ),
    *(
        (_column([b"\x00\xff"], kind), None)
        for kind in (pa.binary(), pa.large_binary(), pa.binary(2))
    ),
    (_column([b"\x00\xff"], pa.binary_view()), None),
    (_column([True], pa.bool_()), None),
    (_column([float("inf")], pa.float64()), None),
    (_column([2**31 - 1], pa.date32(), pa.int32()), None),
    (_column([86_400_000 * 10**8], pa.date64(), pa.int64()), None),
    (_column([1], pa.time32("s"), pa.int32()), None),
    (_column([1], pa.time64("ns"), pa.int64()), None),
    *(
        (_column([2**52], kind, pa.int64()), None)
        for kind in (
            *(pa.timestamp("s"), pa.timestamp("ms", tz="Mars"), pa.timestamp("us")),
            *(pa.timestamp("ns", tz="UTC"), pa.duration("s"), pa.duration("ns")),
        )
    ),
    (_column([["7"]], pa.list_(pa.string())), None),
    (_column([["7"]], pa.large_list(pa.string())), None),
    (_column([["7"]], pa.list_(pa.string(), 1)), None),
    (_column([[datetime.date(2020, 1, 1)]], pa.list_(pa.date32())), None),
    (_column([{"a": 1}], pa.struct([("a", pa.int8())])), None),
    (_column([[("a", 1)]], pa.map_(pa.string(), pa.int8())), None),
    (_column([b"0" * 16], pa.uuid()), None),
    (pa.nulls(2), None),
)
