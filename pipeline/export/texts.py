"""The pass over texts: decontamination, near duplicates, and what a format cannot express."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.export.benchmarks import Benchmarks
from pipeline.export.config import BY_PROMPT, ExportConfig
from pipeline.export.formats import Converter
from pipeline.export.index import Array, Index
from pipeline.export.near_duplicates import Signatures
from pipeline.export.sources import Reader
from pipeline.export.student import Student
from pipeline.tables.traces import TRACES

CHUNK = 1000
Progress = Callable[[str, int, int], None]
# What remains of `format` where a trace gives no row.
_NO_ROW = {
    "preference": "no pair with a margin whose responses end in a stop token",
    "reward": "no pair of a right and a wrong response",
}
_NO_STOP = "no stop token of the tokenizer at the end"
CONTAMINATED = "shares words with a benchmark"
DUPLICATE = "near duplicate of an earlier row"


def filter_texts(
    index: Index,
    reader: Reader,
    config: ExportConfig,
    converter: Converter,
    student: Student | None,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Drop rows by their texts; returns what decontamination removed, with what it hit.

    Raises InputError where the student's template cannot render a response.
    """
    filters = config.filters
    near = filters.near_duplicates
    benchmarks = Benchmarks(filters.decontamination)
    by_row = config.format not in BY_PROMPT
    render = student is not None and config.layout != "text" and config.format != "tokens"
    checks = Checks(reader, converter if by_row else None, student if render else None)
    removed: list[dict[str, Any]] = []
    empty: list[int] = []
    if not (by_row or filters.decontamination.benchmarks or near.threshold is not None):
        return removed
    wanted = set(converter.columns if by_row else ()) | {
        *("prompt_id", "sample", "question", "response", *index.turns.columns),
    }
    columns = [name for name in TRACES.names if name in wanted]
    with ExitStack() as stack:
        signatures = stack.enter_context(Signatures(near)) if near.threshold is not None else None
        for numbers, rows in chunks(reader, index, index.kept, columns, "filtering", progress):
            clean: list[int] = []
            for n, row in zip(numbers, rows, strict=True):
                if not checks.makes_rows(row):
                    empty.append(n)
                elif hit := benchmarks.hit(row["question"], row["response"]):
                    key = {"prompt_id": row["prompt_id"], "sample": row["sample"]}
                    removed.append({"row": int(n), **key, **asdict(hit)})
                else:
                    checks.check_rendered(row, int(index.file[n]), int(index.row[n]))
                    clean.append(n)
            if signatures is not None and clean:
                chosen = [rows[k] for k in np.flatnonzero(np.isin(numbers, clean))]
                signatures.add(np.array(clean), [_compared(row, near.text) for row in chosen])
        index.drop(np.array(empty, dtype=np.int64), _NO_ROW.get(config.format, _NO_STOP))
        index.drop(np.array([r.pop("row") for r in removed], dtype=np.int64), CONTAMINATED)
        if signatures is not None:
            index.drop(signatures.duplicates(), DUPLICATE)
    return removed


class Checks:
    """What is asked of every row: does the format make something of it, and can the student's
    template render it? A None asks nothing."""

    def __init__(
        self, reader: Reader, converter: Converter | None, student: Student | None
    ) -> None:
        self._reader, self._converter, self._student = reader, converter, student

    def makes_rows(self, row: Mapping[str, Any]) -> bool:
        return self._converter is None or bool(self._converter.convert([row]))

    def check_rendered(self, row: Mapping[str, Any], file: int, number: int) -> None:
        """Raises InputError naming the row."""
        if self._converter is None or self._student is None:
            return
        for messages in self._converter.conversations(row):
            where = f"{self._reader.where(file, number)} (prompt {row['prompt_id']})"
            tools = row.get("tools")
            self._student.check_rendered(messages, where, tools and json.loads(tools))


def drop_empty_units(
    index: Index,
    reader: Reader,
    config: ExportConfig,
    converter: Converter,
    units: Sequence[Array],
    progress: Progress,
) -> None:
    """Of a format with a row a prompt: drop the prompts that give no row."""
    order = np.concatenate(units) if len(units) else np.zeros(0, dtype=np.int64)
    sizes = iter([len(unit) for unit in units])
    waiting: list[tuple[int, Mapping[str, Any]]] = []
    need = next(sizes, 0)
    empty: list[int] = []
    for numbers, rows in chunks(reader, index, order, converter.columns, "pairing", progress):
        for n, row in zip(numbers, rows, strict=True):
            waiting.append((int(n), row))
            if len(waiting) == need:
                if not converter.convert([each for _, each in waiting]):
                    empty += [number for number, _ in waiting]
                waiting, need = [], next(sizes, 0)
    index.drop(np.array(empty, dtype=np.int64), _NO_ROW[config.format])


def chunks(
    reader: Reader,
    index: Index,
    numbers: Array,
    columns: Sequence[str],
    phase: str,
    progress: Progress,
) -> Iterator[tuple[Array, list[dict[str, Any]]]]:
    """Rows of the index by number, `CHUNK` at a time, as mappings."""
    for start in range(0, len(numbers), CHUNK):
        part = numbers[start : start + CHUNK]
        table = reader.gather(index.file[part], index.row[part], columns)
        yield part, index.turns.read(table)
        progress(phase, start + len(part), len(numbers))


def _compared(row: Mapping[str, Any], text: str) -> str:
    return {
        "prompt": row["question"],
        "response": row["response"],
        "both": f"{row['question']}\n{row['response']}",
    }[text]
