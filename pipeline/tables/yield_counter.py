"""The yield of a run (`pipeline.tables.yields`), counted while its rows are read once: 10 bytes a
row stay in memory, and no id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.tables.yields import Attempts, pass_at

# The columns that are counted; rows without an answer and dead letters are no attempts.
COLUMNS = ("prompt_id", "error", "correct", "base_correct", "cost")

Flags = npt.NDArray[np.bool_]


class YieldCounter:
    """Counts the attempts at each prompt. `greedy_first`: the first response of a row is the LM's
    greedy answer, so a prompt is hard where that one is wrong."""

    def __init__(self, *, greedy_first: bool) -> None:
        self._greedy_first = greedy_first
        self._ids: list[npt.NDArray[np.int64]] = []
        self._right: list[Flags] = []
        self._hard: list[Flags] = []
        self._flops = 0.0

    def counting(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The same tables, each counted as it passes by."""
        for table in tables:
            self.add(table)
            yield table

    def add(self, table: pa.Table) -> None:
        """Count the rows of a table with `COLUMNS`."""
        graded = table.filter(pc.field("correct").is_valid() & pc.field("error").is_null())
        ids = graded["prompt_id"].to_pylist()
        # Equal hashes of two ids among 10^7 prompts have a probability of 10^-6.
        self._ids.append(np.fromiter(map(hash, ids), np.int64, len(ids)))
        self._right.append(_flags(graded["correct"], missing=False))
        self._hard.append(~_flags(graded["base_correct"], missing=True))
        self._flops += sum(cost["flops"] for cost in graded["cost"].to_pylist())

    def as_dict(self) -> dict[str, Any] | None:
        """The figures, ready for JSON; None where nothing is graded.

        `right` is the share of `prompts` with a right response, `right_on_hard` the same among the
        `hard` ones (None where these are not known), `right_per_gflop` prompts with a right
        response for 10^9 FLOPs, and `pass_at` the chance of a right one among k responses, where
        every prompt has several.
        """
        _, prompt = np.unique(_joined(self._ids, np.int64), return_inverse=True)
        if not len(prompt):
            return None
        made = np.bincount(prompt)
        right = np.bincount(prompt, _joined(self._right, np.bool_)).astype(int)
        hard = np.bincount(prompt, _joined(self._hard, np.bool_)) > 0
        solved = right > 0
        fewest = int(made.min())
        gflop = self._flops / 1e9
        return {
            "prompts": len(made),
            "right": float(solved.mean()),
            "hard": int(hard.sum()) if self._greedy_first else None,
            "right_on_hard": (
                float(solved[hard].mean()) if self._greedy_first and hard.any() else None
            ),
            "right_per_gflop": float(solved.sum() / gflop) if gflop else None,
            "pass_at": _pass_at(Counter(zip(right.tolist(), made.tolist(), strict=True)), fewest),
        }


def _pass_at(prompts: Counter[tuple[int, int]], fewest: int) -> dict[str, float]:
    """The mean of `pass_at` at 1, 2, 4, ... responses; nothing where a prompt has but one.
    `prompts` counts those with so many right responses of so many."""
    if fewest < 2:
        return {}
    count = prompts.total()
    return {
        str(k): sum(
            n * pass_at(k, Attempts(right=right, made=made)) for (right, made), n in prompts.items()
        )
        / count
        for k in (2**n for n in range(fewest.bit_length()))
    }


def _flags(column: pa.ChunkedArray, *, missing: bool) -> Flags:
    filled: Flags = column.fill_null(missing).to_numpy().astype(np.bool_)
    return filled


def _joined(arrays: list[npt.NDArray[Any]], dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays])
