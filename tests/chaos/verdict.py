"""What a run lost, doubled, invented or altered, by its final rows beside an undisturbed run's.

Nothing the pipeline says of itself is asked: the files are read as any user would.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

Key = tuple[str, int]
Content = Mapping[Key, Sequence[dict[str, Any]]]


def final_rows(run: Path) -> list[dict[str, Any]]:
    """Every final row, with the folder it lies in as `folder`."""
    return [
        row | {"folder": folder}
        for folder in ("data", "dead_letter")
        for file in sorted((run / folder).glob("*.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]


def content(rows: Sequence[dict[str, Any]]) -> Content:
    """Rows by key, without when and where they were made, by which attempt, and how long it
    took."""
    found: defaultdict[Key, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        kept = {k: v for k, v in row.items() if k not in ("created_at", "worker", "attempt")}
        if kept["cost"] is not None:
            kept["cost"] = {k: v for k, v in kept["cost"].items() if k != "seconds"}
        kept.pop("config_hash", None)  # covers the name of the log of passes
        found[row["prompt_id"], row["sample"]].append(kept)
    return found


def verdict(expected: Content, found: Content) -> Counter[str]:
    """Counts of rows: lost, duplicated, unexpected, altered. Each key is expected once."""
    counts = Counter(lost=0, duplicated=0, unexpected=0, altered=0)
    counts["lost"] = len(expected.keys() - found.keys())
    for key, rows in found.items():
        if key not in expected:
            counts["unexpected"] += len(rows)
            continue
        counts["duplicated"] += len(rows) - 1
        counts["altered"] += any(row != expected[key][0] for row in rows)
    return counts
