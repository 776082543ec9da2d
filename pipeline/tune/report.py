"""What a tuning run found: a table of candidates, the best, and whether the gradient pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.config import overrides_yaml
from pipeline.errors import RunError
from pipeline.intervals import normal
from pipeline.run.plan import open_store
from pipeline.store.run_folder import translate_os_errors
from pipeline.store.run_store import RunStore
from pipeline.tune.config import TuneConfig
from pipeline.tune.job import Candidate, candidates, plan


@dataclass
class Tried:
    """One candidate over the prompts it finished: `scores` by prompt id (answer right 0 or 1
    where answers are known, else the judge's reward), mean calls and FLOPs."""

    candidate: Candidate
    scores: dict[str, float] = field(default_factory=dict)
    calls: float = 0.0
    flops: float = 0.0

    @property
    def mean(self) -> float:
        return sum(self.scores.values()) / len(self.scores)


@dataclass(frozen=True)
class Finding:
    """`best` over all candidates, `null` the best without a gradient, their paired difference
    with its 95 % interval; `pays` where the interval is clear of 0. `chosen` is `best` if the
    gradient pays, else `null`."""

    tried: Sequence[Tried]
    measure: str
    best: Tried
    null: Tried
    difference: float
    half: float

    @property
    def pays(self) -> bool:
        return self.difference - self.half > 0

    @property
    def chosen(self) -> Tried:
        return self.best if self.pays else self.null


def report(config: TuneConfig) -> Finding:
    """Read a finished tuning run, and leave what is chosen in its chosen.yaml. Ties go to the
    candidate with fewer calls. Raises RunError where too few rows are finished to tell, StoreError.
    """
    with translate_os_errors(config.run_dir):
        store = open_store(plan(config))
        finding = _finding(store, candidates(config.decoding, config.grid))
        chosen = overrides_yaml(dict(finding.chosen.candidate.overrides))
        store.folder.write("chosen.yaml", chosen.encode())
    return finding


def _finding(store: RunStore, tried: Sequence[Candidate]) -> Finding:
    found = [Tried(c) for c in tried]
    rows = [
        row
        for table in store.rows(("prompt_id", "sample", "correct", "reward", "cost", "error"))
        for row in table.to_pylist()
        if row["error"] is None
    ]
    graded = all(row["correct"] is not None for row in rows)
    for row in rows:
        one = found[row["sample"]]
        one.scores[row["prompt_id"]] = float(row["correct"] if graded else row["reward"])
        one.calls += row["cost"]["paper_calls"]
        one.flops += row["cost"]["flops"]
    for one in found:
        one.calls /= max(1, len(one.scores))
        one.flops /= max(1, len(one.scores))
    complete = [one for one in found if one.scores]
    without = [one for one in complete if not one.candidate.gradient]
    best = max(complete, key=_rank, default=None)
    null = max(without, key=_rank, default=None)
    shared = best.scores.keys() & null.scores.keys() if best and null else set()
    if not (best and null and shared):
        raise RunError(
            f"{store.folder.uri}: nothing to compare, too many dead letters; "
            f"finished are {len(rows)} rows of {len(complete)} candidates, "
            f"{len(without)} of them without a gradient"
        )
    difference, half = normal([best.scores[p] - null.scores[p] for p in shared])
    return Finding(complete, "accuracy" if graded else "reward", best, null, difference, half)


def _rank(one: Tried) -> tuple[float, float]:
    return one.mean, -one.calls
