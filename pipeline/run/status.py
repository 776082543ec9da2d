"""Where a run stands, by what its folder holds. Needs no Ray and changes nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.errors import DamagedError, StoreError
from pipeline.store.files import Folder
from pipeline.store.lease import holder
from pipeline.store.parts import PARTS, open_marked, read_keys
from pipeline.store.run_store import DATA, DEAD_LETTER, INPUT, SUCCESS
from pipeline.tables.trace_totals import kind_of


@dataclass(frozen=True)
class Standing:
    """`state`: done, running (by `holder`) or stopped. `rows`: how many there will be.

    Counts are of committed rows, each `(prompt_id, sample)` once; `damaged` files count
    for nothing and their rows will be made again.
    """

    state: str
    holder: str | None
    rows: int
    finished: int
    dead: int
    dead_by_error: dict[str, int]
    damaged: int


def standing(run_dir: str) -> Standing:
    """Raises StoreError where there is no run folder."""
    try:
        folder = Folder(run_dir)
        if not folder.exists(INPUT):
            raise StoreError(f"{run_dir} is no run folder, or its run has not begun")
        return _standing(folder)
    except (OSError, ValueError, ImportError) as error:
        raise StoreError(f"cannot read run folder {run_dir}: {error}") from error


def _standing(folder: Folder) -> Standing:
    told = json.loads(folder.read(INPUT))
    rows = told.pop("rows")
    found = _Count()
    for name in _files(folder):
        found.add(folder, name, {k.encode(): v.encode() for k, v in told.items()})
    dead = Counter(kind_of(error) for error in found.errors.values() if error is not None)
    held = holder(folder)
    return Standing(
        state="running" if held else "done" if folder.exists(SUCCESS) else "stopped",
        holder=held,
        rows=rows,
        finished=len(found.errors) - dead.total(),
        dead=dead.total(),
        dead_by_error=dict(dead.most_common()),
        damaged=found.damaged,
    )


class _Count:
    """Rows by key, as many bytes for each whatever it weighs; a good one beats a dead one."""

    def __init__(self) -> None:
        self.errors: dict[int, str | None] = {}
        self.damaged = 0

    def add(self, folder: Folder, name: str, marks: Mapping[bytes, bytes]) -> None:
        try:
            keys = read_keys(folder, open_marked(folder, name, marks))
        except FileNotFoundError:
            return
        except DamagedError:
            self.damaged += 1
            return
        columns = (keys[c].to_pylist() for c in ("prompt_id", "sample", "error"))
        for prompt_id, sample, error in zip(*columns, strict=True):
            key = hash((prompt_id, sample))
            if error is None or key not in self.errors:
                self.errors[key] = error


def _files(folder: Folder) -> Iterator[str]:
    """Parts first: one that becomes a final file meanwhile is then met again, not missed."""
    for sub in (PARTS, DATA, DEAD_LETTER):
        for found in folder.files(sub):
            yield found.name
