"""Whether one prompt that is fifty times slower than the rest delays the others.

    python -m tests.bench.pipeline.stragglers [prompts]

Two actors on a local Ray, and an engine that sleeps 0.1 s per batch; the slow prompt comes first.
The bench prints a timeline of committed rows: one line per actor, a digit for the rows that it
committed in that interval (9: nine or more), `S` where the slow row was. Then a table, then one
JSON object. `others_s` is the time from the first commit to the last commit of another row, with
and without the slow prompt.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import load
from pipeline.generate.config import GenerateConfig
from pipeline.generate.job import generate
from tests.bench.arguments import show_help
from tests.bench.pipeline.overhead import SilentWatcher
from tests.chaos.comparison import final_rows

COLUMNS = 72


@dataclass(frozen=True)
class Commit:
    """A committed row: seconds since the first commit, worker, whether it is the slow row."""

    at: float
    worker: str
    slow: bool


def main() -> None:
    show_help(__doc__)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    report: dict[str, float] = {"prompts": count}
    for name, first in (("without", "question"), ("with", "!slow")):
        commits = run([first, *(f"question {n}" for n in range(count - 1))])
        print(f"\n{name} a straggler")
        timeline(commits)
        others = [c for c in commits if not c.slow][: count - 1]
        report[f"others_s_{name}"] = others[-1].at
        workers = Counter(c.worker for c in others)
        report[f"smallest_share_{name}"] = min(workers.values()) / len(others)
        if name == "with":
            (slow,) = (c for c in commits if c.slow)
            report["slow_s"] = slow.at
            report["others_before_it"] = sum(c.at <= slow.at for c in others)
    print()
    for name, value in report.items():
        print(f"{name:24}{value:10.2f}")
    print(json.dumps({k: round(v, 3) for k, v in report.items()}))


def run(texts: list[str]) -> list[Commit]:
    """Run the prompts; returns the commits in the order of time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "prompts.jsonl"
        path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
        settings = ["lm.path=scripted?delay=0.1", "decoding.method=sample", "runtime.max_batch=4"]
        settings += ["cluster.actors.min=2", "cluster.actors.max=2", "cluster.in_flight=16"]
        where = [f"run_dir={folder / 'run'}", f"prompts.path={path}"]
        outcome = generate(load(GenerateConfig, [], [*where, *settings]), SilentWatcher())
        assert outcome.finished == len(texts)
        rows = sorted(final_rows(folder / "run"), key=lambda row: row["created_at"])
    start = rows[0]["created_at"]
    return [
        Commit((r["created_at"] - start).total_seconds(), r["worker"], r["question"] == "!slow")
        for r in rows
    ]


def timeline(commits: list[Commit]) -> None:
    """Rows committed over time, by actor."""
    stretch = max(commits[-1].at, 1e-9) / COLUMNS
    for worker in sorted({c.worker for c in commits}):
        cells: Counter[int] = Counter()
        slow = set()
        for commit in (c for c in commits if c.worker == worker):
            cell = min(int(commit.at / stretch), COLUMNS - 1)
            cells[cell] += 1
            slow |= {cell} if commit.slow else set()
        line = ["S" if n in slow else str(min(cells[n], 9)) for n in range(COLUMNS)]
        print(f"{worker[-6:]} |{''.join(line).replace('0', '.')}| {sum(cells.values())} rows")
    print(f"{'':6} 0 s{'':{COLUMNS - 4}}{commits[-1].at:.1f} s")


if __name__ == "__main__":
    main()
