"""Rows of the file formats that prompts come in, each with its place for error messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from pipeline.errors import InputError
from pipeline.store.uris import below, locate, without_query

LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
TABLES = (".parquet",)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an input; `location` is its place as error messages name it."""

    values: dict[str, Any]
    location: str


def rows(path: str, name: str | None, split: str | None, revision: str | None) -> Iterator[Row]:
    """The rows of a file, a folder of files, a saved dataset or a dataset on the hub.

    Reads as it is consumed. Raises InputError naming the file.
    """
    files = _files(path)
    if files is None:
        yield from _dataset(path, name, split, revision)
        return
    for file in files:
        yield from _lines(file) if without_query(file).endswith(LINES) else _table(file)


def _files(path: str) -> list[str] | None:
    """The data files behind a path; None if it is a dataset, which `datasets` loads."""
    if without_query(path).endswith(LINES + TABLES):
        return [path]
    try:
        filesystem, root = locate(path)
        info = filesystem.get_file_info(root)
        if info.type == pafs.FileType.NotFound:
            return None
        if info.is_file:
            known = ", ".join(LINES + TABLES)
            raise InputError(f"{path}: unknown kind of file (known: {known})")
        entries = filesystem.get_file_info(pafs.FileSelector(root))
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    names = sorted(entry.base_name for entry in entries)
    if "dataset_info.json" in names or "dataset_dict.json" in names:
        return None
    files = [below(path, n) for n in names if n.endswith(LINES + TABLES)]
    if not files:
        raise InputError(f"{path}: the folder holds no {', '.join(LINES + TABLES)} file")
    return files


def _lines(path: str) -> Iterator[Row]:
    for number, line in enumerate(_raw_lines(path), start=1):
        location = f"{path}:{number}"
        try:
            # Some editors begin a file with a byte order mark.
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{location}: invalid UTF-8 at byte {error.start} of the line"
            ) from error
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{location}: malformed JSON, column {error.colno}: {error.msg}"
            ) from error
        if not isinstance(values, dict):
            raise InputError(f"{location}: expected a JSON object, found {type(values).__name__}")
        yield Row(values, location)


def _raw_lines(path: str) -> Iterator[bytes]:
    """Lines as bytes, decoded one by one: so an error of UTF-8 has a line number."""
    try:
        filesystem, root = locate(path)
        rest = b""
        # Arrow decompresses a file whose name ends in .gz.
        with filesystem.open_input_stream(root) as stream:
            while block := stream.read(1 << 20):
                # The last piece may be the beginning of a line that the next block continues.
                *lines, rest = (rest + block).split(b"\n")
                yield from lines
        if rest:
            yield rest
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _table(path: str) -> Iterator[Row]:
    number = 0
    try:
        filesystem, root = locate(path)
        with filesystem.open_input_file(root) as source:
            for batch in pq.ParquetFile(source).iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(values, f"{path} row {number}")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} after row {number}: invalid UTF-8") from error
    except (OSError, ValueError, ImportError, pa.ArrowException) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _dataset(path: str, name: str | None, split: str | None, revision: str | None) -> Iterator[Row]:
    # Imported here: it takes seconds, and most inputs are plain files.
    import datasets  # noqa: PLC0415

    try:
        filesystem, root = locate(path)
        if filesystem.get_file_info(root).type == pafs.FileType.Directory:
            loaded = datasets.load_from_disk(path)
        else:
            loaded = datasets.load_dataset(path, name, revision=revision)
    except Exception as error:  # a dataset's own loading code may raise anything
        raise InputError(f"cannot read prompts from {path}: {_short(error)}") from error
    label = path
    if isinstance(loaded, dict):
        if split is None and len(loaded) == 1:
            split = next(iter(loaded))
        if split not in loaded:
            problem = "set prompts.split" if split is None else f"no split {split!r}"
            raise InputError(f"{path}: {problem}; the splits are {', '.join(loaded)}")
        loaded, label = loaded[split], f"{path}[{split}]"
    for number, values in enumerate(loaded, start=1):
        yield Row(values, f"{label} row {number}")


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
