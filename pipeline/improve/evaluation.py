"""What was measured on a set of prompts, and how two measurements compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from pipeline.intervals import Interval, interval

# The columns of a table of traces that an evaluation is made of.
COLUMNS = ("prompt_id", "reward", "correct", "cost", "error")


class PromptResult(NamedTuple):
    """The judge's reward of a response, and whether its answer is right (1 or 0; None where the
    prompt has no answer)."""

    reward: float
    correct: float | None


class Gains(NamedTuple):
    """Of reward and of accuracy (None without answers), paired by prompt."""

    reward: Interval
    accuracy: Interval | None


@dataclass(frozen=True)
class Evaluation:
    """Results by prompt id, and the mean number of model calls of a prompt, as the paper counts
    them."""

    results: Mapping[str, PromptResult]
    calls: float

    @classmethod
    def of(cls, tables: Iterable[pa.Table]) -> Evaluation:
        """From committed rows, dead letters left out."""
        results: dict[str, PromptResult] = {}
        calls = 0
        for table in tables:
            for row in table.to_pylist():
                if row["error"] is None:
                    correct = None if row["correct"] is None else float(row["correct"])
                    results[row["prompt_id"]] = PromptResult(row["reward"], correct)
                    calls += row["cost"]["paper_calls"]
        return cls(results, calls / len(results))

    @property
    def reward(self) -> float:
        """The judge's mean reward."""
        return sum(result.reward for result in self.results.values()) / len(self.results)

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among the prompts with an answer; None where there are none."""
        graded = [r.correct for r in self.results.values() if r.correct is not None]
        return sum(graded) / len(graded) if graded else None

    def gains(self, before: Evaluation) -> Gains:
        """Over an earlier evaluation, paired by prompt: differences between prompts are larger than
        those between models."""
        shared = sorted(before.results.keys() & self.results.keys())
        pairs = [(before.results[p], self.results[p]) for p in shared]
        rewards = [new.reward - old.reward for old, new in pairs]
        accuracies = [
            new.correct - old.correct
            for old, new in pairs
            if old.correct is not None and new.correct is not None
        ]
        return Gains(interval(rewards), interval(accuracies) if accuracies else None)
