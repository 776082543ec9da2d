"""Writes the static pages of traces, a row group of the runs in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.report import pages
from pipeline.report.arms import Arm
from pipeline.report.index import Methods, Part, index_part, joined
from pipeline.report.records import chunk
from pipeline.report.scripts import json_script
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
    for name in ("index", "words", "rows"):
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
            for start in range(0, len(table), CHUNK_ROWS):
                chunks.add(table.slice(start, CHUNK_ROWS).to_pylist(), arm.tokens)
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
        self._waiting: list[dict[str, Any]] = []
        self._size = 0
        self.starts: list[int] = []
        self.rows = 0

    def add(self, rows: Sequence[dict[str, Any]], tokens: TokenTexts | None) -> None:
        for row in rows:
            size = _size(row)
            full = len(self._waiting) >= CHUNK_ROWS or self._size + size > CHUNK_BYTES
            if self._waiting and full:
                self.close(tokens)
            self._waiting.append(row)
            self._size += size

    def close(self, tokens: TokenTexts | None) -> None:
        if not self._waiting:
            return
        number = len(self.starts)
        self.starts.append(self.rows)
        data = json_script(f"rows/{number}", chunk(self._waiting, tokens))
        (self._target / "rows" / f"{number}.js").write_bytes(data)
        self.rows += len(self._waiting)
        self._waiting, self._size = [], 0


def _size(row: dict[str, Any]) -> int:
    """About how many bytes a row is as JSON."""
    texts = sum(len(value) for value in row.values() if isinstance(value, str))
    tails = sum(200 + 6 * len(r["tail_token_ids"] or ()) for r in row["revisions"] or ())
    tokens = sum(len(row[c] or ()) for c in ("response_token_ids", "base_token_ids"))
    return texts + tails + 20 * tokens


class _Words:
    """Words of rows until they are a block."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._lines: list[str] = []
        self._number = 0

    def add(self, lines: Sequence[str]) -> None:
        self._lines += lines
        while len(self._lines) >= pages.WORDS:
            self._write(self._lines[: pages.WORDS])
            self._lines = self._lines[pages.WORDS :]

    def close(self) -> None:
        if self._lines:
            self._write(self._lines)

    def _write(self, lines: Sequence[str]) -> None:
        path = self._target / "words" / f"{self._number}.js"
        path.write_bytes(pages.words_script(self._number, lines))
        self._number += 1
