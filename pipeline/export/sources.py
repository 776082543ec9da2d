"""The run folders that an export reads: which files hold their rows, and reading them in parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import accumulate
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.errors import InputError, PipelineError, StoreError, VersionError
from pipeline.store.checks.config_check import CONFIG
from pipeline.store.checks.models_check import MODELS
from pipeline.store.checks.version import FILE as VERSION_FILE
from pipeline.store.checks.version import check_version
from pipeline.store.files import MALFORMED, Folder, checksum_of
from pipeline.store.final import DATA, MANIFEST, SUCCESS
from pipeline.store.parts import KIND, PARTS
from pipeline.store.reader import check_table, final_files
from pipeline.tables.traces import TRACES

_OPEN_FILES = 8


@dataclass(frozen=True, kw_only=True)
class Source:
    """A run folder. `digest` stands for its rows: another one means that they changed."""

    uri: str
    folder: Folder
    files: tuple[str, ...]
    complete: bool
    digest: str
    config: Mapping[str, Any]
    models: Mapping[str, Any]

    @property
    def name(self) -> str:
        return PurePath(self.uri.partition("?")[0]).name


def open_sources(paths: Sequence[str], *, allow_partial: bool) -> list[Source]:
    """The run folders in order. Raises InputError: no run folder, not complete, given twice."""
    sources = [_open(path, allow_partial=allow_partial) for path in paths]
    seen: dict[str, Source] = {}
    for source in sources:
        if source.digest in seen:
            raise InputError(f"run_dir: {seen[source.digest].uri} and {source.uri} are one run")
        seen[source.digest] = source
    return sources


def _open(path: str, *, allow_partial: bool) -> Source:
    with _input_errors(path):
        folder = Folder(path)
        check_version(folder)
        if not folder.exists(VERSION_FILE):
            raise InputError(f"{path} is no run folder: it has no {VERSION_FILE}")
        complete = folder.exists(SUCCESS)
        if complete:
            files = [file.name for file in final_files(folder)]
            digest = folder.checksum(MANIFEST)
        elif allow_partial:
            # The final files too: after a reopening they may hold the only copy of a row.
            files = [file.name for name in (DATA, PARTS) for file in folder.files(name)]
            digest = checksum_of("\n".join(files).encode())
        else:
            raise InputError(
                f"{path} is not complete: it has no {SUCCESS}. Give its command again, or "
                "allow_partial=true for the rows that it has committed"
            )
        if not files:
            raise InputError(f"{path} holds no rows")
        # A run folder without it was copied in part; it names the tokenizer, and settings.
        with folder.fs.open_input_file(folder.path(files[0])) as first:
            check_table(pq.ParquetFile(first).schema_arrow, TRACES, f"{path}/{files[0]}")
        config = _mapping(folder, CONFIG, yaml.safe_load)
        models = _mapping(folder, MODELS, json.loads)
    return Source(
        uri=path, folder=folder, files=tuple(files), complete=complete, digest=digest,
        config=config, models=models,
    )  # fmt: skip


def _mapping(folder: Folder, name: str, parse: Callable[[bytes], Any]) -> Mapping[str, Any]:
    """What a file of the run folder holds; nothing where it is missing. Raises InputError."""
    if not folder.exists(name):
        return {}
    try:
        found = parse(folder.read(name))
    except (*MALFORMED, yaml.YAMLError):
        found = None
    if not isinstance(found, Mapping):
        raise InputError(f"{folder.uri}/{name} is damaged: restore it")
    return found


@contextmanager
def _input_errors(path: str) -> Iterator[None]:
    try:
        yield
    except VersionError as error:
        raise InputError(str(error)) from error
    except PipelineError as error:
        if isinstance(error, StoreError):
            raise InputError(f"cannot read {path}: {error}") from error
        raise
    except (OSError, ValueError, ImportError, pa.ArrowException, yaml.YAMLError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


@dataclass
class _Open:
    """An open file, the first row of each of its row groups, and the row group read last."""

    file: pq.ParquetFile
    starts: npt.NDArray[np.int64]
    group: int = -1
    columns: tuple[str, ...] = ()
    table: pa.Table | None = None


@dataclass
class Reader:
    """Reads the rows of sources. A row is named by the number of its file, over all sources, and
    its number in the file. Of a few files, those used last, one row group is in memory."""

    sources: Sequence[Source]
    files: list[tuple[Source, str]] = field(init=False)
    _opened: dict[int, _Open] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.files = [(source, name) for source in self.sources for name in source.files]

    def where(self, file: int, row: int) -> str:
        """A row as an error names it."""
        source, name = self.files[file]
        return f"{source.uri}/{name} row {row + 1}"

    def scan(
        self, columns: Sequence[str], first: int | None = None
    ) -> Iterator[tuple[int, int, pa.Table]]:
        """Some columns of all rows, or of the `first` ones of each source, a row group at a time,
        with its file and first row. Raises InputError."""
        left = dict.fromkeys(map(id, self.sources), first)
        for number, (source, _) in enumerate(self.files):
            if left[id(source)] == 0:
                continue
            opened = self._open(number)
            for group, start in enumerate(opened.starts[:-1]):
                table = self._read(number, opened, group, tuple(columns))
                rest = left[id(source)]
                if rest is not None:
                    table = table.slice(0, rest)
                    left[id(source)] = rest - len(table)
                if len(table):
                    yield number, int(start), table

    def counts(self) -> list[int]:
        """The rows of each source. Raises InputError."""
        found = dict.fromkeys(map(id, self.sources), 0)
        for number, (source, _) in enumerate(self.files):
            found[id(source)] += int(self._open(number).starts[-1])
        return list(found.values())

    def gather(
        self, files: npt.NDArray[Any], rows: npt.NDArray[Any], columns: Sequence[str]
    ) -> pa.Table:
        """Rows in this order; each row group that holds some is read once. Raises InputError."""
        order = np.lexsort((rows, files))
        tables: list[pa.Table] = []
        start = 0
        while start < len(order):
            number, row = int(files[order[start]]), int(rows[order[start]])
            opened = self._open(number)
            group = int(np.searchsorted(opened.starts, row, side="right")) - 1
            low, high = opened.starts[group], opened.starts[group + 1]
            behind = order[start:]
            same = (files[behind] == number) & (rows[behind] < high)
            chosen = behind[: len(behind) if same.all() else int(np.argmin(same))]
            table = self._read(number, opened, group, tuple(columns))
            tables.append(table.take(pa.array(rows[chosen].astype(np.int64) - low)))
            start += len(chosen)
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        gathered = pa.concat_tables(tables).replace_schema_metadata(None)
        return gathered if (back == np.arange(len(back))).all() else gathered.take(pa.array(back))

    def _read(self, number: int, opened: _Open, group: int, columns: tuple[str, ...]) -> pa.Table:
        if (opened.group, opened.columns) != (group, columns) or opened.table is None:
            with _input_errors(self.files[number][0].uri):
                opened.table = opened.file.read_row_group(group, list(columns))
            opened.group, opened.columns = group, columns
        return opened.table

    def _open(self, number: int) -> _Open:
        # Used last: at the end of the dictionary.
        opened = self._opened.pop(number, None) or self._opening(number)
        self._opened[number] = opened
        if len(self._opened) > _OPEN_FILES:
            self._opened.pop(next(iter(self._opened))).file.close(force=True)
        return opened

    def _opening(self, number: int) -> _Open:
        source, name = self.files[number]
        with _input_errors(source.uri):
            handle = source.folder.fs.open_input_file(source.folder.path(name))
            file = pq.ParquetFile(handle, page_checksum_verification=True)
            check_table(file.schema_arrow, TRACES, f"{source.uri}/{name}")
            metadata: Any = file.metadata
            sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
        return _Open(file, np.array([0, *accumulate(sizes)], dtype=np.int64))


def describe(source: Source, rows: int) -> dict[str, Any]:
    """A source in export.json: by name and not by path, which is of this machine."""
    prompts = source.config.get("prompts") or {}
    return {
        "folder": source.name,
        "schema": TRACES.metadata[KIND].decode(),
        "digest": source.digest,
        "rows": rows,
        "complete": source.complete,
        "flops": _flops(source, rows),
        "models": source.models,
        "prompts": {key: prompts.get(key) for key in ("path", "split", "name", "revision")},
        "method": _method(source.config),
        "seed": source.config.get("seed"),
    }


def _flops(source: Source, rows: int) -> float | None:
    """FLOPs of `rows` rows, at the mean of the folder's rows as its manifest tells it; None where
    the folder is not complete, or its manifest tells nothing."""
    if not source.complete:
        return None
    manifest = _mapping(source.folder, MANIFEST, json.loads)
    cost, counts = manifest.get("cost"), manifest.get("counts")
    if not isinstance(cost, Mapping) or not isinstance(counts, Mapping) or not counts.get("rows"):
        return None
    return float(cost["flops"]) * rows / int(counts["rows"]) if "flops" in cost else None


def _method(config: Mapping[str, Any]) -> str | None:
    decoding = config.get("decoding") or {}
    chosen = [name for name, value in decoding.items() if isinstance(value, Mapping)]
    return chosen[0] if len(chosen) == 1 else None


def digest_of(sources: Sequence[Source]) -> str:
    """16 hex digits that stand for the rows of all sources."""
    text = "\n".join(source.digest for source in sources)
    return blake2b(text.encode(), digest_size=8).hexdigest()
