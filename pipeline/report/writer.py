"""Writes the static pages of traces, a row group of the runs in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.report import pages
from pipeline.report.arms import Arm
from pipeline.report.index import Methods, Part, index_part, joined
from pipeline.report.records import chunk_script, sizes
from pipeline.report.tokens import TokenTexts

# A chunk of rows: what a browser loads to show one trace.
CHUNK_ROWS, CHUNK_BYTES = 100, 400_000

# Called with the number of rows that are written, and of all rows.
Progress = Callable[[int, int], None]


def write_traces(
    target: Path,
    arms: Sequence[Arm],
    progress: Progress,
    compared: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the scripts of the runs into a folder; returns the overview. `compared` are the figures
    of their comparison, if they are of one."""
    for name in ("index", "ids", "search", "words", "rows"):
        (target / name).mkdir(parents=True)
    methods, chunks, words = Methods(), _Chunks(target), _Words(target)
    total = sum(arm.rows.rows for arm in arms)
    parts: list[Part] = []
    for number, arm in enumerate(arms):
        mine = []
        for group in arm.rows.groups:
            table = arm.rows.table(group)
            part = index_part(table, number, methods)
            words.add(part.words)
            # The words are on disk now; of a million rows they are a hundred megabytes.
            mine.append(part.without_words())
            for _ in chunks.add(table, arm.tokens):
                progress(chunks.rows, total)
        chunks.close(arm.tokens)
        parts.append(joined(mine))
    words.close()
    whole = pages.whole_of(parts)
    for name, data in pages.index_scripts(whole, parts).items():
        (target / f"{name}.js").write_bytes(data)
    (target / "chunks.js").write_bytes(pages.chunks_script(chunks.starts))
    value = pages.overview(
        arms, parts, methods, chunks=len(chunks.starts), version=0, compared=compared
    )
    (target / "run.js").write_bytes(pages.run_script(value))
    return value


class _Chunks:
    """Rows until they are a chunk."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._waiting: list[pa.Table] = []
        self._count = self._size = 0
        self.starts: list[int] = []
        self.rows = 0

    def add(self, table: pa.Table, tokens: TokenTexts | None) -> Iterator[None]:
        """Write what is full; one step for each chunk."""
        ends = np.concatenate([[0], np.cumsum(sizes(table))])
        start = 0
        while start < len(table):
            last = min(len(table), start + CHUNK_ROWS - self._count)
            room = ends[start] + CHUNK_BYTES - self._size
            stop = min(last, int(np.searchsorted(ends, room, side="right")) - 1)
            if stop <= start and self._waiting:
                self.close(tokens)
                yield
                continue
            stop = max(stop, start + 1)  # a row that is larger than a chunk is one
            self._waiting.append(table.slice(start, stop - start))
            self._count += stop - start
            self._size += int(ends[stop] - ends[start])
            start = stop

    def close(self, tokens: TokenTexts | None) -> None:
        if not self._waiting:
            return
        number = len(self.starts)
        self.starts.append(self.rows)
        data = chunk_script(number, pa.concat_tables(self._waiting), tokens)
        (self._target / "rows" / f"{number}.js").write_bytes(data)
        self.rows += self._count
        self._waiting, self._count, self._size = [], 0, 0


class _Words:
    """Words of rows until they are a block of the index."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._lines: list[str] = []
        self._blocks = self._words = 0

    def add(self, lines: Sequence[str]) -> None:
        self._lines += lines
        while len(self._lines) >= pages.BLOCK:
            self._write(self._lines[: pages.BLOCK])
            self._lines = self._lines[pages.BLOCK :]

    def close(self) -> None:
        if self._lines:
            self._write(self._lines)

    def _write(self, lines: Sequence[str]) -> None:
        for name, data in pages.search_scripts(self._blocks, lines).items():
            (self._target / f"{name}.js").write_bytes(data)
        self._blocks += 1
        for start in range(0, len(lines), pages.WORDS):
            path = self._target / "words" / f"{self._words}.js"
            some = lines[start : start + pages.WORDS]
            path.write_bytes(pages.words_script(self._words, some))
            self._words += 1
