"""One trace of a run: by its key, or one that shows what the search does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow.compute as pc

from pipeline.report.committed import Committed, Group

Row = dict[str, Any]
_UNREVISED = 3
# What tells whether a row is a good example.
_COLUMNS = ("error", "correct", "base_correct", "revisions")


def find(rows: Committed, prompt_id: str, sample: int | None) -> Row | None:
    """The row of this prompt; of several samples the first one if `sample` is None."""
    best: tuple[int, Row] | None = None
    for group in rows.groups:
        keys = rows.table(group, ("prompt_id", "sample"))
        matches = pc.equal(keys["prompt_id"], prompt_id)
        if sample is not None:
            matches = pc.and_(matches, pc.equal(keys["sample"], sample))
        found = pc.indices_nonzero(matches).to_pylist()
        for number in found:
            which = keys["sample"][number].as_py()
            if best is None or which < best[0]:
                best = (which, _row(rows, group, number))
        if best is not None and (sample is not None or best[0] == 0):
            break
    return best[1] if best else None


def example(rows: Committed) -> Row | None:
    """The first row that one revision made right; else the first one with one accepted revision,
    else the first one with several, else the first one. None where no row is finished."""
    best: tuple[int, Any] | None = None
    for group in rows.groups:
        facts = rows.table(group, _COLUMNS).to_pylist()
        for number, row in enumerate(facts):
            rank = _rank(row)
            if rank is None and row["error"] is None:  # guided decoding revises nothing
                rank = _UNREVISED
            if rank is not None and (best is None or rank < best[0]):
                best = (rank, (group, number))
        if best is not None and best[0] == 0:
            break
    if best is None:
        return None
    group, number = best[1]
    return _row(rows, group, number)


def best_example(rows: Iterable[Row]) -> Row | None:
    """As `example`, of rows in memory."""
    ranked = [(rank, n, row) for n, row in enumerate(rows) if (rank := _rank(row)) is not None]
    return min(ranked, key=lambda each: each[:2])[2] if ranked else None


def _row(rows: Committed, group: Group, number: int) -> Row:
    row: Row = rows.table(group).slice(number, 1).to_pylist()[0]
    return row


def _rank(row: Mapping[str, Any]) -> int | None:
    accepted = len([r for r in row["revisions"] or () if r["accepted"]])
    if row["error"] is not None or not accepted:
        return None
    if accepted > 1:
        return 2
    return 0 if row["correct"] and not row["base_correct"] else 1
