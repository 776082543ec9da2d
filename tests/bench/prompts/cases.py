"""Mutated prompt files, and what may be read from them: the cases of `tests.bench.prompts.fuzz`.

What is expected is found here by other means than the reader's: from the pairs of keys and values
of a line, from the fields that were written, or from the rows of the file before it was damaged.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isnan
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nabla_core.types import Prompt
from tests.bench.prompts.columns import COLUMNS

# Finds the first prompt that is not what its row says; None: all are.
Check = Callable[[Sequence[Prompt]], str | None]
PROMPTS = ("prompt", "problem", "question", "messages")


@dataclass(frozen=True)
class Case:
    """A file: its name, its bytes, and what must hold of the prompts that are read from it."""

    name: str
    data: bytes
    check: Check


VALUES = (
    *(
        '"x"',
        '""',
        "7",
        "-0",
        "1.10",
        "1e3",
        "1E400",
        "9" * 5000,
        "0." + "3" * 400,
        "true",
        "false",
    ),
    *("null", "NaN", "-Infinity", "Infinity", '{"a": 1}', "{}", '["x"]', "[]", "[[[[7]]]]"),
    *("[" * 2000 + "]" * 2000, '"\\ud83d"', '"\\u0000\\u001b[2J\\n"', '"<|im_end|>"', '"1.10"'),
    *('{"x": 1, "x": 2}', '[{"role": "user", "content": "hi"}]', '"' + "long " * 3000 + '"'),
    *('[{"role": "user", "content": "hi", "name": "Ann"}]', '[{"role": "tool", "content": "a"}]'),
    *('[{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]', "01", "'x'", "--1"),
)
KEYS = (*PROMPTS, "id", "custom_id", "answer", "system", "tools", "body", "unused", "answer ")


def case(seed: int, number: int) -> Case:
    """The case of a number. Equal numbers give equal cases."""
    draw = random.Random(f"prompts/{seed}/{number}")
    return draw.choice((_json_lines, _json_lines, _json_list, _csv, _parquet, _arrow))(draw)


def _rows(draw: random.Random) -> list[dict[str, str]]:
    """Rows as JSON texts of their values."""
    rows = []
    for n in range(draw.randint(1, 4)):
        row = {draw.choice(PROMPTS[:3]): json.dumps(f"What is {n} and {n}?")}
        for key, value in (("id", f'"p{n}"'), ("answer", str(2 * n)), ("system", '"Think."')):
            if draw.random() < 0.6:
                row[key] = value
        rows.append(row)
    return rows


def _objects(draw: random.Random, separator: str) -> str:
    texts = []
    for row in _rows(draw):
        pairs = list(row.items())
        for _ in range(draw.choice((0, 0, 0, 1, 2))):
            at = draw.randrange(len(pairs) + 1)
            pairs[at : at + draw.randint(0, 1)] = [(draw.choice(KEYS), draw.choice(VALUES))]
        draw.shuffle(pairs)
        texts.append("{" + ", ".join(f'"{key}": {value}' for key, value in pairs) + "}")
    return separator.join(texts)


def _damaged(draw: random.Random, data: bytes) -> bytes:
    """The bytes with a few of them changed, inserted or lost; often none."""
    changed = bytearray(data)
    for _ in range(draw.choice((0, 0, 0, 0, 1, 1, 2, 8))):
        at = draw.randrange(len(changed) + 1)
        kind = draw.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del changed[at : at + draw.choice((1, 2, 30))]
        elif kind == 2:
            changed[at:at] = draw.choice(
                (b'"', b"\\", b"\n", b"\r", b"\x00", b"\xff", b",", b"[", b"{")
            )
        elif kind == 3:
            del changed[at:]
        else:
            changed[at:at] = bytes(changed[at : at + draw.choice((3, 40))])
    return bytes(changed)


def _packed(draw: random.Random, name: str, data: bytes) -> tuple[str, bytes]:
    """The file, sometimes compressed and then sometimes damaged again."""
    suffix, codec = draw.choice(
        (("", ""), ("", ""), (".gz", "gzip"), (".zst", "zstd"), (".bz2", "bz2"))
    )
    if not codec:
        return name, data
    buffer = pa.BufferOutputStream()
    with pa.CompressedOutputStream(buffer, codec) as stream:
        stream.write(data)
    compressed = bytes(buffer.getvalue())
    # Arrow writes no checksum into .zst, so its damage may go unnoticed.
    damaged = codec != "zstd" and draw.random() < 0.2
    return name + suffix, _damaged(draw, compressed) if damaged else compressed


def _json_lines(draw: random.Random) -> Case:
    data = _damaged(draw, _objects(draw, "\n").encode())
    name, packed = _packed(draw, "a.jsonl", data)
    return Case(name, packed, _check_objects(data.decode("utf-8", "replace").split("\n")))


def _json_list(draw: random.Random) -> Case:
    separator = draw.choice((",", ", ", ",\n"))
    data = _damaged(draw, f"[{_objects(draw, separator)}]".encode())
    name, packed = _packed(draw, "a.json", data)
    try:
        pairs = json.loads(data, object_pairs_hook=_Pairs, parse_int=_Digits, parse_float=_Digits)
    except (ValueError, RecursionError):
        pairs = None

    def check(prompts: Sequence[Prompt]) -> str | None:
        rows = pairs if isinstance(pairs, list) and not isinstance(pairs, _Pairs) else None
        if rows is None:  # the rows before the damage may be read
            return None
        return _first(_difference(prompt, row) for prompt, row in zip(prompts, rows, strict=False))

    return Case(name, packed, check)


class _Digits(str):
    """A number as it is written."""


class _Pairs(list[tuple[str, Any]]):
    """An object as its keys and values."""

    def one(self, key: str) -> Any:
        """The value of a key; raises LookupError where it is there twice."""
        values = [value for name, value in self if name == key]
        if len(values) > 1:
            raise LookupError(f"{key} is there {len(values)} times")
        value = values[0] if values else None
        return None if isinstance(value, float) and isnan(value) else value


def _check_objects(lines: Sequence[str]) -> Check:
    """Each prompt is that of its line."""

    def check(prompts: Sequence[Prompt]) -> str | None:
        full = [line for line in lines if line.strip("\ufeff \t\r\n\v\f\x1c\x1d\x1e\x1f\x85")]
        for prompt, line in zip(prompts, full, strict=False):
            try:
                row = json.loads(
                    line, object_pairs_hook=_Pairs, parse_int=_Digits, parse_float=_Digits
                )
            except (ValueError, RecursionError) as error:
                return f"read {prompt} from {line[:200]!r}: {error}"
            if found := _difference(prompt, row):
                return found
        return None

    return check


def _difference(prompt: Prompt, row: Any) -> str | None:
    """What a prompt says otherwise than its row."""
    if not isinstance(row, _Pairs):
        return f"read {prompt} from {str(row)[:200]}"
    try:
        contents = [row.one(key) for key in PROMPTS if row.one(key) is not None]
        answer, system = row.one("answer"), row.one("system")
        prompt_id = row.one("id") or row.one("custom_id")
        body = row.one("body")
        if isinstance(body, _Pairs) and body.one("messages") is not None:
            contents.append(body.one("messages"))
    except LookupError as error:
        return f"read {prompt}: {error}"
    if len(contents) != 1:
        return f"read {prompt} from {len(contents)} prompts"
    messages = _turns(contents[0])
    if messages and messages[0][0] == "system" and system is None:
        system, messages = messages[0][1], messages[1:]
    expected = (messages, _as_text(answer), _as_text(system))
    read = ([(m["role"], m["content"]) for m in prompt.messages], prompt.answer, prompt.system)
    if read != expected:
        return f"read {str(read)[:300]}, expected {str(expected)[:300]}"
    if prompt_id is not None and prompt.id != _as_text(prompt_id):
        return f"read the id {prompt.id[:100]!r}, expected {str(prompt_id)[:100]!r}"
    return None


def _turns(content: Any) -> list[tuple[Any, Any]]:
    if isinstance(content, str):
        return [("user", None if isinstance(content, _Digits) else content)]
    if not isinstance(content, list) or isinstance(content, _Pairs):
        return [("user", None)]
    turns = []
    for turn in content:
        more = [v for k, v in turn if k not in ("role", "content") and v not in (None, [], "")]
        turns.append((turn.one("role"), None if more else turn.one("content")))
    return turns


def _as_text(value: Any) -> str | None:
    """A text or the digits of a number; what can be no text is the text of nothing."""
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    return "(no text)"


def _csv(draw: random.Random) -> Case:
    rows = _rows(draw)
    names = list(dict.fromkeys((*rows[0], *draw.sample(KEYS, draw.randint(0, 2)))))
    for row in rows[1:]:
        row[names[0]] = row.pop(next(key for key in row if key in PROMPTS))
    if draw.random() < 0.2:
        names.append(draw.choice(names))
    sink = io.StringIO()
    writer = csv.writer(
        sink, delimiter=draw.choice(",\t"), lineterminator=draw.choice(("\n", "\r\n"))
    )
    writer.writerow(names)
    for row in rows:
        field = draw.choice(("", "x", 'a "b", c', "1.10", "a\nb", "\x1b[2J", "nan"))
        writer.writerow([row.get(name, field).strip('"') for name in names])
    data = _damaged(draw, sink.getvalue().encode())
    suffix = ".tsv" if "\t" in sink.getvalue() else ".csv"
    name, packed = _packed(draw, f"a{suffix}", data)
    return Case(name, packed, _check_fields(data, "\t" if suffix == ".tsv" else ","))


def _check_fields(data: bytes, delimiter: str) -> Check:
    """Each prompt is that of its row."""

    def check(prompts: Sequence[Prompt]) -> str | None:
        text = io.StringIO(data.decode("utf-8-sig", "replace"), newline="")
        read: list[list[str]] = []
        with suppress(csv.Error):  # the rows before it may be read
            read.extend(row for row in csv.reader(text, delimiter=delimiter) if row)
        header, rows = (read[0], read[1:]) if read else ([], [])
        if len(prompts) > len(rows):
            return f"read {len(prompts)} prompts from {len(rows)} rows"
        for prompt, row in zip(prompts, rows, strict=False):
            if len(row) != len(header):
                return f"read {prompt} from {row}"
            pairs = _Pairs(zip(header, (value or None for value in row), strict=True))
            if found := _difference(prompt, pairs):
                return found
        return None

    return check


def _parquet(draw: random.Random) -> Case:
    """A Parquet file with checksums of pages, damaged somewhere."""
    rows = [{"prompt": f"What is {n}?", "answer": f"{n}", "id": f"p{n}"} for n in range(40)]
    codec = draw.choice(("none", "snappy", "zstd", "gzip"))
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_pylist(rows),
        sink,
        write_page_checksum=True,
        compression=codec,
        use_dictionary=draw.random() < 0.5,
        data_page_version=draw.choice(("1.0", "2.0")),
        row_group_size=draw.choice((7, 40)),
    )
    data = bytes(sink.getvalue())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    changed = bytearray(data)
    inside = draw.random() < 0.6
    for _ in range(draw.choice((1, 1, 2, 5))):
        # No checksum protects the footer: what it says of the data may change unnoticed.
        at = draw.randrange(4, footer) if inside else draw.randrange(len(changed))
        changed[at] ^= 1 << draw.randrange(8)
    if not inside and draw.random() < 0.3:
        del changed[draw.randrange(len(changed)) :]
    expected = [(row["prompt"], row["answer"], row["id"]) for row in rows]

    def check(prompts: Sequence[Prompt]) -> str | None:
        read = [(p.text, p.answer, p.id) for p in prompts]
        same = not inside or read == expected[: len(read)]
        return None if same else f"read {read[:3]} ... from damaged pages"

    return Case("a.parquet", bytes(changed), check)


def _arrow(draw: random.Random) -> Case:
    """A column of any type of Arrow in any role."""
    column, expected = draw.choice(COLUMNS)
    name = draw.choice(("answer", "answer", "id", "system", "prompt", "messages", "unused"))
    columns: dict[str, Any] = {name: column}
    if name not in ("prompt", "messages"):
        columns["prompt"] = ["x", "y"]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)

    def check(prompts: Sequence[Prompt]) -> str | None:
        read = [getattr(p, {"prompt": "text"}.get(name, name), None) for p in prompts]
        if name == "unused" or (name == "id" and column.null_count == 2):
            return None if len(read) == 2 else f"{column.type}: read {len(read)} of 2 prompts"
        if name in ("prompt", "messages", "id"):
            wrong = bool(read) and read[0] != expected
        else:
            wrong = any(value not in (expected, None) for value in read)
        return f"{name} of type {column.type}: read {read}" if wrong else None

    return Case("a.parquet", bytes(sink.getvalue()), check)


def _first(found: Any) -> str | None:
    return next((one for one in found if one), None)
