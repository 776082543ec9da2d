"""The tables for people, and the line of JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.intervals import interval
from pipeline.tables.yields import Attempted, Counter, Yield, samples_for, yield_of
from tests.bench.distill.arms import Sources, best, by_prompt
from tests.bench.distill.sources import Row
from tests.bench.distill.students import Answers, Trained

# Ways with one response to a prompt.
WAYS = ("search", "null", "guided")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the table: answers to the unseen prompts (one entry for each seed of SFT), and what
    they took. `rows`: training rows. `generation` (FLOPs, all data), `training` (FLOPs)."""

    name: str
    answers: Sequence[Answers]
    trained: Sequence[Trained] = ()
    rows: int | None = None
    generation: float | None = None
    training: float | None = None

    def accuracy(self) -> list[float]:
        """Of each prompt, the mean over the seeds."""
        columns = zip(*(a.answer for a in self.answers), strict=True)
        return [sum(column) / len(column) for column in columns]


def print_line(line: Line, *, header: bool) -> None:
    """One row of the table."""
    if header:
        print(
            f"{'arm':28}{'rows':>7}{'accuracy':>22}{'every step':>11}{'stopped':>8}{'valid.':>7}"
            f"{'rate':>8}{'gen GF':>8}{'train GF':>9}{'MFLOP':>7}{'calls':>6}"
        )
    found = figures(line)
    mean, low, high = found["accuracy"]
    rows = "" if line.rows is None else f"{line.rows}"
    generation = "" if line.generation is None else f"{line.generation / 1e9:.0f}"
    training = "" if line.training is None else f"{line.training / 1e9:.0f}"
    chosen = line.trained[0] if line.trained else None
    print(
        f"{line.name:28}{rows:>7}{f'{mean:.3f} [{low:.3f}, {high:.3f}]':>22}"
        f"{found['every_step']:11.3f}{found['stopped']:8.3f}"
        f"{f'{chosen.validation:.3f}' if chosen else '':>7}"
        f"{f'{chosen.rate:g}' if chosen else '':>8}"
        f"{generation:>8}{training:>9}{found['mflop']:7.1f}{found['calls']:6.1f}",
        flush=True,
    )


def figures(line: Line) -> dict[str, Any]:
    """The figures of a row, for JSON."""
    several = line.answers

    def mean(values: Sequence[float]) -> float:
        return round(sum(values) / len(values), 4)

    return {
        "accuracy": [round(x, 4) for x in interval(line.accuracy())],
        "accuracy_by_sft_seed": [mean(a.answer) for a in several],
        "every_step": mean([mean(a.trace) for a in several]),
        "stopped": mean([mean(a.stopped) for a in several]),
        "mflop": mean([a.flops / 1e6 for a in several]),
        "calls": mean([a.calls for a in several]),
        "rows": line.rows,
        "generation_gflop": None if line.generation is None else round(line.generation / 1e9, 1),
        "training_gflop": None if line.training is None else round(line.training / 1e9, 1),
        "validation": [t.validation for t in line.trained],
        "learning_rate": [t.rate for t in line.trained],
        "step": [t.step for t in line.trained],
    }


def differences(lines: Mapping[str, Line]) -> dict[str, list[float]]:
    """Paired differences in accuracy that the claims rest on, as far as both were measured."""
    wanted = (
        ("search, verified", "teacher: search"),
        ("search", "teacher: search"),
        ("search, verified", "best of 8, equal FLOPs"),
        ("search, verified", "best of 8, equal rows"),
        ("search, verified", "samples, verified (STaR)"),
        ("search, verified", "null arm, verified"),
        ("search, verified", "guided, verified"),
        ("search, verified", "search"),
        ("search", "null arm"),
        ("search", "guided"),
        ("verified student + search", "search, verified"),
        ("DPO after SFT", "search, verified"),
    )
    return {
        f"{a} - {b}": [
            round(x, 4)
            for x in interval(
                [x - y for x, y in zip(lines[a].accuracy(), lines[b].accuracy(), strict=True)]
            )
        ]
        for a, b in wanted
        if a in lines and b in lines
    }


def yields(made: Sources) -> dict[str, dict[str, float]]:
    """Of each way to generate: the share of prompts with a right response, the same among prompts
    whose greedy answer is wrong, and right prompts for 1 GFLOP."""
    search, samples = made["search"], made["samples"]
    hard = {row.id for row in search.rows if row.hard}
    ways = {name: _attempted(made[name].rows, made[name].flops) for name in WAYS}
    ways["best of 8"] = _attempted(map(best, by_prompt(samples.rows)), samples.flops)
    found = {name: _figures(yield_of(way, hard)) for name, way in ways.items()}
    plain = _attempted(made["plain"].rows, made["plain"].flops)
    equal = samples_for(search.flops / search.prompts, plain)
    for k in sorted({1, 8, equal}):
        name = f"pass@{k}" + (" (FLOPs of the search)" if k == equal else "")
        found[name] = _figures(yield_of(plain, hard, k=k))
    return found


def _attempted(rows: Iterable[Row], flops: float) -> Attempted:
    counter = Counter()
    for row in rows:
        counter.add(row.id, correct=row.correct, flops=0.0)
    counted = counter.counted()
    assert counted is not None
    return replace(counted, flops=flops)


def _figures(found: Yield) -> dict[str, float]:
    return {
        "right": round(found.right, 4),
        "right_when_greedy_is_wrong": round(found.right_on_hard or 0.0, 4),
        "mflop": round(found.flops / 1e6, 1),
        "right_per_gflop": round(found.right_per_gflop, 2),
    }


def print_yields(found: Mapping[str, Mapping[str, float]]) -> None:
    """The table of yields."""
    print(f"\n{'one response unless said':34}{'right':>7}{'hard':>7}{'MFLOP':>8}{'per GFLOP':>11}")
    for name, row in found.items():
        print(
            f"{name:34}{row['right']:7.3f}{row['right_when_greedy_is_wrong']:7.3f}"
            f"{row['mflop']:8.1f}{row['right_per_gflop']:11.2f}"
        )
