"""Compares the final rows of a disturbed run with those of an undisturbed one.

The files are read as any user would read them; no code of the pipeline is used.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.tolerance import same_rewards

Key = tuple[str, int]
RowsByKey = Mapping[Key, Sequence[dict[str, Any]]]


def final_rows(run: Path) -> list[dict[str, Any]]:
    """Every final row of a run folder. The column `folder` names the folder it is in."""
    return [
        row | {"folder": folder}
        for folder in ("data", "dead_letter")
        for file in sorted((run / folder).glob("*.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]


def rows_by_key(rows: Sequence[dict[str, Any]]) -> RowsByKey:
    """Rows by prompt id and sample, without the columns that differ from run to run: when,
    where, by which attempt, and in how many seconds a row was made."""
    found: defaultdict[Key, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        kept = {k: v for k, v in row.items() if k not in ("created_at", "worker", "attempt")}
        if kept["cost"] is not None:
            kept["cost"] = {k: v for k, v in kept["cost"].items() if k != "seconds"}
        # The hash covers the path of the log of rollouts, which each run has for itself.
        kept.pop("config_hash", None)
        found[row["prompt_id"], row["sample"]].append(kept)
    return found


def count_differences(expected: RowsByKey, found: RowsByKey) -> Counter[str]:
    """Counts of lost, duplicated, unexpected and altered rows. `expected` has one row a key."""
    counts = Counter(lost=0, duplicated=0, unexpected=0, altered=0)
    counts["lost"] = len(expected.keys() - found.keys())
    for key, rows in found.items():
        if key not in expected:
            counts["unexpected"] += len(rows)
            continue
        counts["duplicated"] += len(rows) - 1
        if not all(same(row, expected[key][0]) for row in rows):
            counts["altered"] += 1
    return counts


def same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether two rows are the same: all texts, tokens and decisions are equal, and rewards differ
    by no more than the tolerance."""
    alike = _without_rewards(found) == _without_rewards(expected)
    return alike and same_rewards(_rewards(found), _rewards(expected))


def _rewards(row: Mapping[str, Any]) -> list[float | None]:
    revisions = row.get("revisions") or ()
    return [row.get("reward"), row.get("base_reward")] + [
        r[name] for r in revisions for name in ("reward_before", "reward_after")
    ]


def _without_rewards(row: Mapping[str, Any]) -> dict[str, Any]:
    measured = ("reward", "base_reward", "response_log_probabilities", "revisions")
    kept = {k: v for k, v in row.items() if k not in measured}
    decided = (
        *("position", "from_token", "to_token", "from_text", "to_text", "accepted"),
        "tail_token_ids",
    )
    return kept | {"revisions": [[r[name] for name in decided] for r in row.get("revisions") or ()]}
