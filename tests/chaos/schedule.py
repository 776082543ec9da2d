"""A seeded schedule of kills over whole runs of `jobs.generate` on a cluster of three nodes.

    python -m tests.chaos.schedule [--minutes 30] [--seed 0]   runs until the time is over
    python -m tests.chaos.schedule --kills 24                  until there were so many kills

Killed by SIGKILL: actors, the ledger, Ray's other worker processes, raylets (another node
joins), drivers (the same command again, with other numbers of actors and batch sizes),
workers and drivers at points of the commit protocol, and the whole cluster with its head
(the command again on a new one). Final rows are compared with those of an undisturbed run.

The last line is one JSON object. `passes_ratio`: rollouts, counted by the engines in a log,
over those of undisturbed runs. `gave_up`: drivers that ended though nobody killed them or
their head.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.nodes import Nodes
from tests.chaos.verdict import Content, content, final_rows, verdict

ROOT = Path(__file__).parents[2]
KINDS = {"actor": 9, "worker": 3, "ledger": 1, "point": 5, "raylet": 4, "driver": 4, "head": 1}
COMMITS = ("before-write", "after-write", "before-rename", "after-rename")
WORKER_POINTS = tuple(f"{step} parts" for step in COMMITS)
DRIVER_POINTS = (
    *(f"{step} data" for step in COMMITS),
    *("between-data-and-dead", "before-rename dead_letter", "before-success"),
    *("before-rename _SUCCESS", "after-rename _SUCCESS", "after-success"),
)
PATIENCE = 60.0


def write_prompts(path: Path, count: int) -> None:
    """Some repeat, some fail on their own."""
    texts = [f"question {n % (count - 5)}" for n in range(count)]
    texts[3], texts[count // 2] = "!raise", "!long"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))


@dataclass
class Story:
    """One run of the job, however often its driver must be started."""

    folder: Path
    nodes: Nodes
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    gave_up: int = 0
    _armed: set[Path] = field(default_factory=set)

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def passes(self) -> int:
        """Rollouts the engines served, for rows that were kept and for rows that were not."""
        log = self.folder / "log"
        return log.read_bytes().count(b"\n") if log.exists() else 0

    def tell(self, planned: list[str], pace: int, deadline: float) -> None:
        """Live through the planned kills, one after so many passes each, to the end."""
        driver = self._start()
        due, since = pace, time.monotonic()
        try:
            while (code := driver.poll()) not in (0, 3):
                self._count_points()
                self.nodes.mend()
                if not self.nodes.head_lives():
                    print("the head ended by itself", flush=True)
                    driver = self._kill("head", driver)
                elif code is not None:
                    if code != -signal.SIGKILL:
                        self.gave_up += 1
                        print(f"a driver ended by itself: {code}", flush=True)
                    driver = self._start()
                late = time.monotonic() - since > PATIENCE
                if planned and (self.passes() >= due or late):
                    driver = self._kill(planned.pop(0), driver)
                    # By the plan and not from here on: a kill can take as long as many passes.
                    due, since = due + pace, time.monotonic()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.folder}: the run does not come to its end")
                time.sleep(0.1)
        finally:
            driver.kill()
            driver.wait()
        self._count_points()

    def _start(self) -> subprocess.Popen[bytes]:
        def one_of(name: str, *values: int) -> str:
            return f"{name}={self.rng.choice(values)}"

        actors = self.rng.randint(2, 4)
        command = [
            *(sys.executable, "-m", "jobs.generate", f"run_dir={self.run}"),
            f"prompts.path={self.folder.parent / 'prompts.jsonl'}",
            f"lm.path=scripted?delay=0.05&log={self.folder / 'log'}",
            *("samples_per_prompt=2", "decoding.nabla.max_rollouts=4", "max_attempts=20"),
            *(f"cluster.address={self.nodes.address}", f"cluster.actors.min={actors}"),
            *(f"cluster.actors.max={actors}", one_of("cluster.in_flight", 4, 8, 16)),
            *(one_of("runtime.max_batch", 2, 8), one_of("store.flush_rows", 1, 4)),
            "store.flush_seconds=1",
        ]
        told = os.environ | {"PYTHONFAULTHANDLER": "1"}
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(command, cwd=ROOT, env=told, stdout=output, stderr=output)

    def _kill(self, kind: str, driver: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        if kind in ("driver", "head"):
            if kind == "head":
                self.nodes.lose_all()
            driver.kill()
            driver.wait()
            driver = self._start()
        elif kind == "raylet":
            self.nodes.lose_node(self.rng)
        elif kind == "point":
            self.arm(self.rng.choice(WORKER_POINTS))
            return driver
        else:
            found = self.nodes.processes()
            chosen = found[kind] or found["actor"] or found["worker"]
            if not chosen:
                return driver
            self.rng.choice(chosen).kill()
        self.kills[kind] += 1
        return driver

    def arm(self, point: str) -> None:
        """The next process to come to this point dies there."""
        token = token_of(self.folder.parent, point)
        token.touch()
        self._armed.add(token)

    def _count_points(self) -> None:
        gone = {token for token in self._armed if not token.exists()}
        self.kills["point"] += len(gone)
        self._armed -= gone


def token_of(folder: Path, point: str) -> Path:
    return folder / f"die-{point.replace(' ', '-')}"


def tell(folder: Path, nodes: Nodes, seed: str, planned: list[str], pace: int) -> Story:
    """A run with these kills; two of its driver's last steps are fatal as well."""
    story = Story(folder, nodes, random.Random(seed))
    story.folder.mkdir()
    if planned:
        for point in story.rng.sample(DRIVER_POINTS, 2):
            story.arm(point)
    story.tell(list(planned), pace, time.monotonic() + 1200)
    return story


def plan(seed: str, count: int) -> list[str]:
    """Kinds of kills: each kind at least once where there is room."""
    rng = random.Random(seed)
    kinds = list(KINDS)[:count]
    kinds += rng.choices(list(KINDS), list(KINDS.values()), k=count - len(kinds))
    rng.shuffle(kinds)
    return kinds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.schedule", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--kills", type=int, help="at least so many, in as many runs")
    parser.add_argument("--prompts", type=int, default=150)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        base = Path(folder)
        write_prompts(base / "prompts.jsonl", options.prompts)
        points = (*WORKER_POINTS, *DRIVER_POINTS)
        os.environ["NABLA_FAILPOINTS"] = ";".join(f"{p}|{token_of(base, p)}" for p in points)
        nodes = Nodes()
        try:
            report = chaos(base, nodes, options, started)
        finally:
            nodes.close()
    report["minutes"] = round((time.monotonic() - started) / 60, 1)
    print(json.dumps(report))


def chaos(base: Path, nodes: Nodes, options: argparse.Namespace, started: float) -> dict:
    """Disturbed runs beside one that was not."""
    undisturbed = tell(base / "undisturbed", nodes, "u", [], 0)
    expected: Content = content(final_rows(undisturbed.run))
    passes = undisturbed.passes()
    print(f"undisturbed: {len(expected)} rows, {passes} passes", flush=True)
    count = options.kills or 40
    kills: Counter[str] = Counter()
    judged: Counter[str] = Counter()
    workers: set[str] = set()
    made = runs = gave_up = 0

    def enough() -> bool:
        if options.kills:
            return kills.total() >= options.kills
        return runs > 0 and time.monotonic() - started >= 60 * options.minutes

    while not enough():
        seed = f"{options.seed}-{runs}"
        story = tell(base / f"run{runs}", nodes, seed, plan(seed, count), passes // count)
        rows = final_rows(story.run)
        found = verdict(expected, content(rows))
        workers |= {row["worker"] for row in rows}
        kills += story.kills
        judged.update(found)
        gave_up += story.gave_up
        made += story.passes()
        runs += 1
        print(
            f"run {runs}: {story.kills.total()} kills {dict(story.kills)}, "
            f"{story.passes() / passes:.2f} passes, {len(rows)} rows, {dict(found)}, "
            f"{story.gave_up} drivers gave up, {time.monotonic() - started:.0f} s",
            flush=True,
        )
        if not any(found.values()) and not story.gave_up:
            shutil.rmtree(story.folder)
        else:
            kept = Path(tempfile.mkdtemp(prefix="chaos-failed-")) / story.folder.name
            shutil.copytree(story.folder, kept)
            print(f"kept {kept}", flush=True)
    return {
        "seed": options.seed,
        "runs": runs,
        "rows": len(expected),
        "kills": kills.total(),
        **{f"kills_{kind}": kills[kind] for kind in KINDS},
        **judged,
        "gave_up": gave_up,
        "workers": len(workers),
        "nodes": len({worker.partition("-")[0] for worker in workers}),
        "passes_ratio": round(made / (runs * passes), 3),
        "passes_lost_a_kill": round((made - runs * passes) / kills.total(), 1),
    }


if __name__ == "__main__":
    main()
