"""The result of a tuning run: a score for each candidate, the best one, and whether the gradient
helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.config import overrides_yaml
from pipeline.errors import RunError
from pipeline.intervals import normal
from pipeline.run.config import generation_settings
from pipeline.run.plan import open_store
from pipeline.store.run_folder import translate_os_errors
from pipeline.store.run_store import RunStore
from pipeline.tune.candidates import Candidate, candidates
from pipeline.tune.config import TuneConfig
from pipeline.tune.plan import plan

Measure = Literal["accuracy", "reward"]
CHOSEN = "chosen.yaml"


@dataclass
class CandidateResult:
    """A candidate on the prompts that it finished.

    `scores` by prompt id: 1 for a right and 0 for a wrong answer where all answers are graded,
    else the judge's reward. `calls` (of the LM, as the paper counts them) and `flops` are means
    over the same prompts.
    """

    candidate: Candidate
    scores: dict[str, float] = field(default_factory=dict)
    total_calls: float = 0.0
    total_flops: float = 0.0

    def add(self, row: Mapping[str, Any], score: float) -> None:
        """Count a finished row."""
        self.scores[row["prompt_id"]] = score
        self.total_calls += row["cost"]["paper_calls"]
        self.total_flops += row["cost"]["flops"]

    @property
    def mean(self) -> float:
        return sum(self.scores.values()) / len(self.scores)

    @property
    def calls(self) -> float:
        return self.total_calls / len(self.scores)

    @property
    def flops(self) -> float:
        return self.total_flops / len(self.scores)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The candidates and the one to use.

    `best` is the best of all, `null` the best without a gradient. `difference` is the mean of
    their paired differences over prompts, and `half_width` that of its 95 % normal interval.
    """

    tried: Sequence[CandidateResult]
    measure: Measure
    best: CandidateResult
    null: CandidateResult
    difference: float
    half_width: float

    @property
    def guide_helps(self) -> bool:
        """Whether the interval of the difference lies above 0."""
        return self.difference - self.half_width > 0

    @property
    def chosen(self) -> CandidateResult:
        """`best` if the guide helps, else `null`."""
        return self.best if self.guide_helps else self.null


def report(config: TuneConfig) -> Choice:
    """Read a finished tuning run and write the models and the chosen method to its chosen.yaml.

    Of candidates with equal means the one with fewer calls wins. Raises RunError where too few
    rows are finished for a comparison, StoreError.
    """
    with translate_os_errors(config.run_dir):
        store = open_store(plan(config))
        choice = choose(store, candidates(config.decoding, config.grid))
        decoding = choice.chosen.candidate.decoding
        chosen = generation_settings(config.lm, config.reward, decoding)
        store.folder.write(CHOSEN, overrides_yaml(chosen).encode())
    return choice


def choose(store: RunStore, tried: Sequence[Candidate]) -> Choice:
    """Compare candidates by the rows of a finished run. Raises RunError."""
    results = [CandidateResult(candidate) for candidate in tried]
    rows = [
        row
        for table in store.rows(("prompt_id", "sample", "correct", "reward", "cost", "error"))
        for row in table.to_pylist()
        if row["error"] is None
    ]
    # One measure for all candidates: accuracy only if every row has a grade.
    graded = all(row["correct"] is not None for row in rows)
    for row in rows:
        results[row["sample"]].add(row, float(row["correct"] if graded else row["reward"]))
    complete = [result for result in results if result.scores]
    without = [result for result in complete if not result.candidate.gradient]
    best = max(complete, key=_rank, default=None)
    null = max(without, key=_rank, default=None)
    # A prompt is compared only where both candidates have finished it.
    shared = best.scores.keys() & null.scores.keys() if best and null else set()
    if not (best and null and shared):
        raise RunError(
            f"{store.folder.uri}: nothing to compare, too many dead letters; "
            f"finished are {len(rows)} rows of {len(complete)} candidates, "
            f"{len(without)} of them without a gradient"
        )
    # Paired: prompts differ in difficulty far more than candidates differ on a prompt.
    difference, half_width = normal([best.scores[p] - null.scores[p] for p in shared])
    return Choice(
        tried=complete,
        measure="accuracy" if graded else "reward",
        best=best,
        null=null,
        difference=difference,
        half_width=half_width,
    )


def _rank(result: CandidateResult) -> tuple[float, float]:
    # Accuracies of candidates are often equal: then the cheaper one wins.
    return result.mean, -result.calls
