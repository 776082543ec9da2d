"""Rows of text files: JSON Lines, arrays of JSON, CSV and TSV. They may be larger than memory."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain

from pipeline.errors import InputError
from pipeline.inputs.file import File, Row, reason
from pipeline.inputs.json_values import DECODER, NestedTooDeep, check_depth, decode
from pipeline.inputs.values import Repeated, kind

_BLOCK = 1 << 20
_SPACES = " \t\r\n"


def json_lines(file: File) -> Iterator[Row]:
    """One object a line; blank lines are left out. Raises InputError naming file and line."""
    for number, text in _decoded_lines(file):
        if text.strip():
            location = f"{file.label}:{number}"
            yield _row(_decode(text, location), location)


def json_array(file: File) -> Iterator[Row]:
    """A list of objects. A file that begins with an object holds one a line, as JSON Lines do.

    Raises InputError naming file and row.
    """
    texts = _blocks(file)
    text = ""
    while not text.strip(_SPACES) and (block := next(texts, "")):
        text += block
    begin = text.lstrip(_SPACES)
    if begin.startswith("["):
        yield from _elements(file, begin[1:], texts)
    elif begin.startswith("{"):
        yield from json_lines(file)
    elif begin:
        raise InputError(f"{file.label}: expected a list of JSON objects, or one object a line")


def _elements(file: File, text: str, texts: Iterator[str]) -> Iterator[Row]:
    """The objects behind the bracket that opens the list; `texts` continues `text`."""
    number, after = 0, "["
    while True:
        text = text.lstrip(_SPACES) or next(texts, "")
        if not text:
            raise InputError(f"{file.label}: the list is not closed after row {number}")
        if not text.strip(_SPACES):
            continue
        text = text.lstrip(_SPACES)
        if text[0] == "]" and after != ",":
            if any(more.strip(_SPACES) for more in chain([text[1:]], texts)):
                raise InputError(f"{file.label}: more text behind the list")
            return
        if after == "row":
            if text[0] != ",":
                raise InputError(f"{file.label}: no comma after row {number}")
            text, after = text[1:], ","
            continue
        number += 1
        location = f"{file.label} row {number}"
        value, text = _first_value(text, texts, location)
        yield _row(value, location)
        after = "row"


def _first_value(text: str, texts: Iterator[str], location: str) -> tuple[object, str]:
    """The JSON value that a text begins with, and the text behind it."""
    missing = _BLOCK
    while True:
        try:
            value, end = DECODER.raw_decode(text)
            check_depth(text[:end])
        except json.JSONDecodeError as error:
            # Cut at the end of a block? Twice as much is read each time: a long row is decoded
            # again a few times, and not once a block.
            more = ""
            if len(text) - error.pos < 16 or error.msg.startswith("Unterminated string"):
                while len(more) < missing and (block := next(texts, "")):
                    more += block
            if not more:
                raise InputError(f"{location}: malformed JSON: {error.msg}") from error
            text, missing = text + more, 2 * missing
        except (NestedTooDeep, RecursionError) as error:
            raise InputError(f"{location}: {NestedTooDeep()}") from error
        else:
            return value, text[end:]


def csv_rows(file: File, delimiter: str) -> Iterator[Row]:
    """Rows below a line of column names; an empty field is a missing value.

    Raises InputError naming file and line.
    """
    # The default limit of a field is 128 KiB.
    csv.field_size_limit(sys.maxsize)
    lines = (text for _, text in _decoded_lines(file))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        location = f"{file.label}:{line}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{location}: malformed CSV: {reason(error)}") from error
        if fields is None:
            return
        if not fields:
            continue
        if not header:
            header = fields
            repeated = {name for name, count in Counter(header).items() if count > 1}
            continue
        if len(fields) != len(header):
            raise InputError(
                f"{location}: {len(fields)} fields, and the first line names {len(header)} columns"
            )
        values: dict[str, object] = {n: v or None for n, v in zip(header, fields, strict=True)}
        values |= dict.fromkeys(repeated, Repeated("is given by two columns of that name"))
        yield Row(values, location)


def _row(value: object, location: str) -> Row:
    if not isinstance(value, dict):
        raise InputError(f"{location}: expected a JSON object, and it {kind(value)}")
    return Row(value, location)


def _decode(text: str, location: str) -> object:
    try:
        return decode(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{location}: malformed JSON, column {error.colno}: {error.msg}"
        ) from error
    except (NestedTooDeep, RecursionError) as error:
        raise InputError(f"{location}: {NestedTooDeep()}") from error


def _decoded_lines(file: File) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, each with its newline."""
    for number, line in enumerate(_raw_lines(file), start=1):
        try:
            # Some editors begin a file with a byte order mark.
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{file.label}:{number}: invalid UTF-8 at byte {error.start} of the line"
            ) from error


def _raw_lines(file: File) -> Iterator[bytes]:
    """Lines as bytes, decoded one by one: so an error of UTF-8 has a line number."""
    pieces: list[bytes] = []
    for block in file.blocks(_BLOCK):
        *lines, rest = block.split(b"\n")
        for line in lines:
            yield b"".join((*pieces, line, b"\n"))
            pieces.clear()
        # The last piece may be the beginning of a line that the next blocks continue.
        pieces.append(rest)
    if any(pieces):
        yield b"".join(pieces)


def _blocks(file: File) -> Iterator[str]:
    """The whole text in blocks that end where a line ends."""
    lines = (text for _, text in _decoded_lines(file))
    while True:
        block: list[str] = []
        size = 0
        for text in lines:
            block.append(text)
            size += len(text)
            if size >= _BLOCK:
                break
        if not block:
            return
        yield "".join(block)
