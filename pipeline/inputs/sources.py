"""Where the rows of an input are: a file, a pattern of files, a folder of files, or a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow import fs as pafs

from pipeline.errors import InputError
from pipeline.inputs.file import File, Row, reason
from pipeline.inputs.hub import hub_rows, is_hub_id, saved_rows
from pipeline.inputs.tables import parquet_rows
from pipeline.inputs.text_files import csv_rows, json_array, json_lines
from pipeline.printable import shown
from pipeline.references import shown_uri
from pipeline.store.uris import below, locate, without_query

# Arrow decompresses files by these suffixes.
_PACKED = ("", ".gz", ".zst", ".bz2")
LINES = tuple(kind + packed for kind in (".jsonl", ".ndjson") for packed in _PACKED)
ARRAYS = tuple(".json" + packed for packed in _PACKED)
COMMAS = tuple(".csv" + packed for packed in _PACKED)
TABS = tuple(".tsv" + packed for packed in _PACKED)
TABLES = (".parquet",)
KNOWN = LINES + ARRAYS + COMMAS + TABS + TABLES
_KINDS = ".jsonl, .ndjson, .json, .csv and .tsv, each also with .gz, .zst or .bz2, and .parquet"


def rows(
    path: str, name: str | None, split: str | None, revision: str | None, wanted: frozenset[str]
) -> Iterator[Row]:
    """The rows of a file, of the files that a pattern matches or a folder holds, or of a dataset.

    `wanted`: the columns that a prompt can be made of; tables are read with these alone. Reads as
    it is consumed. Raises InputError naming the file.
    """
    label = shown_uri(path)
    try:
        filesystem, root = locate(_encoded(path))
        kind = filesystem.get_file_info(root).type
        found = _find(filesystem, root, path, kind)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"cannot read {label}: {reason(error)}") from error
    if found is not None:
        for file in found:
            yield from _file_rows(file, wanted)
    elif kind == pafs.FileType.Directory:
        yield from saved_rows(path, label, split, wanted)
    else:
        yield from hub_rows(path, name, split, revision, wanted)


def _find(filesystem: Any, root: str, path: str, kind: Any) -> list[File] | None:
    """The data files behind a path; None if it is a dataset, which `datasets` loads."""
    label = shown_uri(path)
    if kind == pafs.FileType.Directory:
        return _in_folder(filesystem, root, path)
    if kind == pafs.FileType.NotFound and _is_pattern(path):
        return _matching(filesystem, root, label)
    # Some servers answer for a file only when it is read.
    if kind != pafs.FileType.NotFound or without_query(path).endswith(KNOWN):
        return [File(filesystem, root, label)]
    if is_hub_id(path):
        return None
    raise InputError(f"cannot read {label}: no such file or folder")


def _file_rows(file: File, wanted: frozenset[str]) -> Iterator[Row]:
    name = without_query(file.path)
    if name.endswith(LINES):
        return json_lines(file)
    if name.endswith(ARRAYS):
        return json_array(file)
    if name.endswith(COMMAS):
        return csv_rows(file, ",")
    if name.endswith(TABS):
        return csv_rows(file, "\t")
    if name.endswith(TABLES):
        return parquet_rows(file, wanted)
    raise InputError(f"{file.label}: unknown kind of file (known: {_KINDS})")


def _in_folder(filesystem: Any, root: str, path: str) -> list[File] | None:
    """The data files of a folder; None if it is a dataset, which `datasets` loads."""
    entries = filesystem.get_file_info(pafs.FileSelector(root))
    by_name = {entry.base_name: entry.path for entry in entries}
    if "dataset_info.json" in by_name or "dataset_dict.json" in by_name:
        return None
    # Some systems keep a hidden file beside each file.
    names = sorted(name for name in by_name if not name.startswith("."))
    data = [name for name in names if name.endswith(LINES + TABLES)]
    fields = [name for name in names if name.endswith(COMMAS + TABS)]
    if data and fields:
        raise InputError(
            f"{shown_uri(path)}: the folder holds {shown(data[0])} and {shown(fields[0])}: give a "
            "pattern that matches the files that are meant"
        )
    # Beside files of other kinds, .json describes them.
    chosen = data or fields or [name for name in names if name.endswith(ARRAYS)]
    if not chosen:
        raise InputError(f"{shown_uri(path)}: the folder holds no file of a known kind ({_KINDS})")
    return [File(filesystem, by_name[name], below(shown_uri(path), name)) for name in chosen]


def _matching(filesystem: Any, root: str, label: str) -> list[File]:
    """The files that a pattern matches, in the order of their names."""
    wrapped = ArrowFSWrapper(filesystem)
    found = [
        info for info in wrapped.glob(root, detail=True).values() if info.get("type") == "file"
    ]
    if not found:
        raise InputError(f"{label}: no file matches")
    names = sorted(info["name"] for info in found)
    return [File(filesystem, name, _label(name, label)) for name in names]


def _label(name: str, pattern: str) -> str:
    """A matched file in messages: a path, or with the scheme of the pattern."""
    scheme = urlsplit(pattern).scheme
    return f"{scheme}://{name}" if len(scheme) > 1 else name


def _encoded(path: str) -> str:
    """The path as `locate` takes it: brackets of a pattern are no characters of a URI."""
    if len(urlsplit(path).scheme) < 2:
        return path
    base, mark, query = path.partition("?")
    return base.replace("[", "%5B").replace("]", "%5D") + mark + query


def _is_pattern(path: str) -> bool:
    # In a URI a question mark begins the query.
    is_uri = len(urlsplit(path).scheme) > 1
    return any(sign in without_query(path) for sign in ("*[" if is_uri else "*?["))
