"""Yield: what a way to generate is worth where answers can be verified.

A prompt with one right response is a prompt that can be trained on. So the yield is the share of
prompts with a right response, beside what plain samples give for the same FLOPs: pass@k (Chen et
al., arXiv 2107.03374). The prompts that count most are those whose greedy answer is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import pyarrow as pa

# The columns of a table of traces that a yield is made of.
COLUMNS = ("prompt_id", "correct", "cost", "error")


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """The graded responses to one prompt, and how many of them are right."""

    right: int
    made: int


@dataclass(frozen=True, kw_only=True)
class Attempted:
    """What a way to generate gave: the attempts at each prompt, by id, and the FLOPs of all."""

    prompts: Mapping[str, Attempts]
    flops: float

    @property
    def flops_a_response(self) -> float:
        """Mean FLOPs of a response."""
        return self.flops / sum(attempts.made for attempts in self.prompts.values())

    @property
    def fewest(self) -> int:
        """The number of responses that every prompt has at least."""
        return min(attempts.made for attempts in self.prompts.values())


@dataclass
class Counter:
    """Counts the attempts in rows of traces; rows without an answer and dead letters are no
    attempts."""

    flops: float = 0.0
    _right: dict[str, int] = field(default_factory=dict)
    _made: dict[str, int] = field(default_factory=dict)

    def add(self, prompt_id: str, *, correct: bool, flops: float) -> None:
        """Count a response."""
        self._right[prompt_id] = self._right.get(prompt_id, 0) + correct
        self._made[prompt_id] = self._made.get(prompt_id, 0) + 1
        self.flops += flops

    def counted(self) -> Attempted | None:
        """What was counted; None where nothing was graded."""
        if not self._made:
            return None
        prompts = {p: Attempts(right=self._right[p], made=n) for p, n in self._made.items()}
        return Attempted(prompts=prompts, flops=self.flops)


def attempted(tables: Iterable[pa.Table]) -> Attempted | None:
    """The attempts in tables of traces with `COLUMNS`; None where no response is graded."""
    counter = Counter()
    for table in tables:
        row: dict[str, Any]
        for row in table.to_pylist():
            if row["error"] is None and row["correct"] is not None:
                flops = row["cost"]["flops"]
                counter.add(row["prompt_id"], correct=row["correct"], flops=flops)
    return counter.counted()


@dataclass(frozen=True, kw_only=True)
class Yield:
    """The yield of a way to generate.

    - `right`: the share of prompts with a right response; `right_on_hard`: the same among the
      `hard` prompts, whose greedy answer is wrong (None where that is not known, or none is).
    - `flops` of a prompt; `right_per_gflop`: prompts with a right response for 10^9 FLOPs, and
      `hard_per_gflop`: the same among hard prompts, at the same FLOPs a prompt.
    """

    right: float
    hard: int | None
    right_on_hard: float | None
    flops: float
    right_per_gflop: float
    hard_per_gflop: float | None


def pass_at(k: int, attempts: Attempts) -> float:
    """The probability that one of k responses is right, where `attempts` are more of them: the
    unbiased estimator 1 - C(wrong, k) / C(made, k). Raises ValueError where k exceeds them."""
    wrong, made = attempts.made - attempts.right, attempts.made
    if not 1 <= k <= made:
        raise ValueError(f"pass@{k} needs at least {k} responses to a prompt, and one has {made}")
    # A product of ratios, since the binomials themselves overflow; 0 once wrong < k.
    return 1 - prod(max(0, wrong - n) / (made - n) for n in range(k))


def yield_of(made: Attempted, hard: Collection[str] | None = None, k: int | None = None) -> Yield:
    """The yield of all responses to a prompt, or of `k` of them (`pass_at`), whose FLOPs then are
    k times those of a response. `hard`: ids of the prompts whose greedy answer is wrong; None: not
    known."""
    shares = {p: pass_at(k or one.made, one) for p, one in made.prompts.items()}
    difficult = None if hard is None else [shares[p] for p in shares if p in hard]
    count = len(shares)
    flops = made.flops / count if k is None else made.flops_a_response * k
    right = sum(shares.values()) / count
    on_hard = sum(difficult) / len(difficult) if difficult else None

    def per_gflop(share: float) -> float:
        return share / (flops / 1e9) if flops else 0.0

    return Yield(
        right=right,
        hard=None if difficult is None else len(difficult),
        right_on_hard=on_hard,
        flops=flops,
        right_per_gflop=per_gflop(right),
        hard_per_gflop=None if on_hard is None else per_gflop(on_hard),
    )


def samples_for(flops: float, plain: Attempted) -> int:
    """How many plain samples cost about `flops`; at least 1, and at most as many as there are."""
    one = plain.flops_a_response
    return max(1, min(plain.fewest, round(flops / one) if one else plain.fewest))
