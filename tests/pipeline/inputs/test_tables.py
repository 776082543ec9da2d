"""Every type of Arrow in every column of a Parquet file: carried as it is, or refused by name."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.inputs.row_prompt import Columns
from tests.pipeline.inputs.sources import prompts_of


def texts(kind):
    return pa.array(["7", None], kind)


# What an answer becomes; None: it is refused. The second value of each column is missing.
CARRIED = {
    "string": (texts(pa.string()), "7"),
    "large_string": (texts(pa.large_string()), "7"),
    "string_view": (texts(pa.string_view()), "7"),
    "dictionary": (texts(pa.string()).dictionary_encode(), "7"),
    "int8": (pa.array([-7, None], pa.int8()), "-7"),
    "uint8": (pa.array([7, None], pa.uint8()), "7"),
    "int16": (pa.array([7, None], pa.int16()), "7"),
    "uint16": (pa.array([7, None], pa.uint16()), "7"),
    "int32": (pa.array([7, None], pa.int32()), "7"),
    "uint32": (pa.array([7, None], pa.uint32()), "7"),
    "int64": (pa.array([-(2**63), None], pa.int64()), "-9223372036854775808"),
    "uint64": (pa.array([2**64 - 1, None], pa.uint64()), "18446744073709551615"),
    "float16": (pa.array([np.float16(0.1), None], pa.float16()), "0.1"),
    "float32": (pa.array([0.1, None], pa.float32()), "0.1"),
    "float64": (pa.array([0.1, None]), "0.1"),
    "float64 nan": (pa.array([1.5, float("nan")]), "1.5"),
    "decimal32": (pa.array([decimal.Decimal("1.10"), None], pa.decimal32(5, 2)), "1.10"),
    "decimal64": (pa.array([decimal.Decimal("1.10"), None], pa.decimal64(9, 2)), "1.10"),
    "decimal128": (pa.array([decimal.Decimal("0E-9"), None], pa.decimal128(20, 9)), "0.000000000"),
    "decimal256": (pa.array([decimal.Decimal("9" * 70), None], pa.decimal256(70, 0)), "9" * 70),
}
BYTES = [b"\x00\xff", None]
REFUSED = {
    "bool": pa.array([True, None]),
    "infinite": pa.array([float("inf"), None]),
    "binary": pa.array(BYTES),
    "large_binary": pa.array(BYTES, pa.large_binary()),
    "binary_view": pa.array(BYTES, pa.binary_view()),
    "fixed_size_binary": pa.array(BYTES, pa.binary(2)),
    "dictionary of bytes": pa.array(BYTES).dictionary_encode(),
    "date32": pa.array([2**31 - 1, None], pa.int32()).cast(pa.date32()),
    "date64": pa.array([86_400_000 * 10**8, None], pa.int64()).cast(pa.date64()),
    "time32": pa.array([1, None], pa.int32()).cast(pa.time32("s")),
    "time64": pa.array([1, None], pa.int64()).cast(pa.time64("ns")),
    "timestamp": pa.array([2**62, None], pa.int64()).cast(pa.timestamp("us")),
    "timestamp of a zone": pa.array([2**62, None], pa.int64()).cast(pa.timestamp("ms", tz="Mars")),
    "timestamp ns": pa.array([1, None], pa.int64()).cast(pa.timestamp("ns")),
    "duration": pa.array([2**62, None], pa.int64()).cast(pa.duration("s")),
    "list": pa.array([["7"], None]),
    "large_list": pa.array([["7"], None], pa.large_list(pa.string())),
    "fixed_size_list": pa.array([["7"], None], pa.list_(pa.string(), 1)),
    "list of dates": pa.array([[2**31 - 1], None], pa.list_(pa.int32())).cast(
        pa.list_(pa.date32())
    ),
    "struct": pa.array([{"a": 1}, None]),
    "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int32())),
    "uuid": pa.array([b"0" * 16, None], pa.uuid()),
}


def written(tmp_path, **columns):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": ["x", "y"], **columns}), path)
    return path


@pytest.mark.parametrize("name", CARRIED)
def test_a_text_or_number_keeps_its_digits_and_a_missing_one_is_none(tmp_path, name):
    column, expected = CARRIED[name]
    path = written(tmp_path, answer=column)
    assert [p.answer for p in prompts_of(path)] == [expected, None]


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_value_is_refused_where_it_is_asked_for_and_not_read_otherwise(tmp_path, name):
    for what, column in (("answer", "answer"), ("system prompt", "system"), ("id", "id")):
        path = written(tmp_path, **{column: REFUSED[name]})
        with pytest.raises(
            InputError, match=rf"a\.parquet row 1: the {what} \(column {column}\) is"
        ):
            prompts_of(path)
    path = written(tmp_path, unused=REFUSED[name])
    assert [p.text for p in prompts_of(path)] == ["x", "y"]


def test_an_id_in_a_column_of_floats_is_refused(tmp_path):
    path = written(tmp_path, id=pa.array([1.0, None]))
    with pytest.raises(InputError, match=r"row 1: the id is the number 1\.0; an id is a text"):
        prompts_of(path)
    assert len(prompts_of(written(tmp_path, id=pa.array([None, float("nan")])))) == 2


def test_conversations_of_every_kind_of_list(tmp_path):
    turn = pa.struct([("role", pa.string()), ("content", pa.string()), ("at", pa.date32())])
    given = [[], [{"role": "user", "content": "a", "at": None}], None]
    expected = [{"role": "user", "content": "a"}]
    for kind in (pa.list_(turn), pa.large_list(turn)):
        column = pa.array(given, kind).slice(1, 1)
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"messages": column}), path)
        (prompt,) = prompts_of(path)
        assert list(prompt.messages) == expected
    late = [[{"role": "user", "content": "a", "at": datetime.date(2020, 1, 1)}]]
    pq.write_table(pa.table({"messages": pa.array(late, pa.list_(turn))}), path)
    with pytest.raises(InputError, match="row 1: message 1 has at, which no prompt carries"):
        prompts_of(path)


def test_text_that_is_not_utf8_is_refused_in_its_row(tmp_path):
    broken = pa.array([b"a", b"\xff"]).view(pa.string())
    path = written(tmp_path, answer=broken)
    with pytest.raises(InputError, match=r"row 2: the answer \(column answer\) is invalid UTF-8"):
        prompts_of(path)
    assert prompts_of(path, limit=1)[0].answer == "a"


def test_two_columns_of_one_name_are_refused(tmp_path):
    table = pa.table([["x"], ["1"], ["2"]], names=["prompt", "answer", "answer"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"row 1: the answer .* is given by two columns"):
        prompts_of(tmp_path / "a.parquet")


# The text stands once in the file, as it is.
PLAIN = {"compression": "none", "use_dictionary": False, "write_statistics": False}


def test_a_flipped_bit_is_noticed_where_pages_have_checksums(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"prompt": ["what is one and one?"]})
    pq.write_table(table, path, write_page_checksum=True, **PLAIN)
    data = bytearray(path.read_bytes())
    data[data.index(b"what is one") + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"cannot read .*a\.parquet: .*checksum"):
        prompts_of(path)


def test_damage_in_a_column_that_nobody_asked_for_is_not_read(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"prompt": ["x"], "unused": ["what is one and one?"]})
    pq.write_table(table, path, write_page_checksum=True, **PLAIN)
    data = bytearray(path.read_bytes())
    data[data.index(b"what is one") + 5] ^= 1
    path.write_bytes(data)
    assert [p.text for p in prompts_of(path)] == ["x"]
    with pytest.raises(InputError, match="checksum"):
        prompts_of(path, columns=Columns(answer="unused"))
