"""A dry run of `export`: what it would fail at, and what its filters leave of the first traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.export.config import BY_PROMPT, ExportConfig
from pipeline.export.folder import MARKER
from pipeline.export.formats import converter
from pipeline.export.index import Index
from pipeline.export.job import check_out, filtered, nothing_left, opened, units_of
from pipeline.export.sources import Reader
from pipeline.export.student import Student
from pipeline.store.final import SUCCESS
from pipeline.store.run_folder import translate_os_errors

# Traces of each run folder that the filters are shown on.
FIRST = 1000
# Traces, or prompts, whose rows are shown.
ROWS = 100

OutState = Literal["free", "interrupted", "complete"]


@dataclass(frozen=True, kw_only=True)
class ExportPreview:
    """What an export would do.

    `sources` are name, rows and whether it is complete of each run folder. `read`, `dropped` and
    `kept` count traces of the first `FIRST` of each; `rows` are the rows of config `default` that
    the first `ROWS` of the kept ones make.
    """

    sources: list[tuple[str, int, bool]]
    out: OutState
    student: str | None
    read: int
    dropped: Mapping[str, int]
    kept: int
    rows: list[dict[str, Any]]

    @property
    def total(self) -> int:
        """Traces of all run folders."""
        return sum(rows for _, rows, _ in self.sources)


def preview(config: ExportConfig) -> ExportPreview:
    """Check an export and change nothing.

    Benchmark files are read, and a template renders the traces. Raises PipelineError and
    ModelError, also where the filters leave nothing of all traces.
    """
    sources, student = opened(config)
    with translate_os_errors(config.out, "dataset folder"):
        out = check_out(config, sources, student)
        state: OutState = "interrupted" if out.exists(MARKER) else "free"
        state = "complete" if out.exists(SUCCESS) else state
    reader = Reader(sources)
    counts = reader.counts()
    index, _ = filtered(config, reader, student, lambda phase, done, total: None, FIRST)
    if not len(index.kept) and len(index) == sum(counts):
        raise nothing_left(index)
    return ExportPreview(
        sources=[
            (source.name, rows, source.complete)
            for source, rows in zip(sources, counts, strict=True)
        ],
        out=state,
        student=student.name if student else None,
        read=len(index),
        dropped=index.counts(),
        kept=len(index.kept),
        rows=_first_rows(config, reader, index, student),
    )


def _first_rows(
    config: ExportConfig, reader: Reader, index: Index, student: Student | None
) -> list[dict[str, Any]]:
    units = units_of(index, index.kept, by_prompt=config.format in BY_PROMPT)
    made = converter(config, student, index.turns)
    rows: list[dict[str, Any]] = []
    for unit in units.of(0, min(ROWS, len(units))):
        table = reader.gather(index.file[unit], index.row[unit], made.columns)
        rows += made.convert(made.turns.read(table))
    return rows
