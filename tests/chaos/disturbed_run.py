"""One run of `jobs.generate` during which processes are killed, until it is complete."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.nodes import Nodes

ROOT = Path(__file__).parents[2]
COMMIT_STEPS = ("before-write", "after-write", "before-rename", "after-rename")
WORKER_POINTS = tuple(f"{step} parts" for step in COMMIT_STEPS)
DRIVER_POINTS = (
    *(f"{step} data" for step in COMMIT_STEPS),
    *("between-data-and-dead", "before-rename dead_letter", "before-success"),
    *("before-rename _SUCCESS", "after-rename _SUCCESS", "after-success"),
)
# A kill comes so many seconds after the last one even if the engines serve no rollouts.
LONGEST_PAUSE = 60.0
LONGEST_RUN = 1200.0


def write_prompts(path: Path, count: int) -> None:
    """Some prompts repeat, and two become dead letters without any kill."""
    texts = [f"question {n % (count - 5)}" for n in range(count)]
    texts[3], texts[count // 2] = "!raise", "!long"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))


def failpoints(folder: Path) -> str:
    """All failpoints as `NABLA_FAILPOINTS` lists them. Each fires once its token file exists."""
    points = (*WORKER_POINTS, *DRIVER_POINTS)
    return ";".join(f"{point}|{_token(folder, point)}" for point in points)


def _token(folder: Path, point: str) -> Path:
    return folder / f"die-{point.replace(' ', '-')}"


@dataclass
class DisturbedRun:
    """The run, whose driver is started again whenever it ended before the run was complete.

    `kills` counts the kills by kind, `gave_up` the drivers that ended although neither they
    nor their head node were killed.
    """

    folder: Path
    nodes: Nodes
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    gave_up: int = 0
    _armed: set[Path] = field(default_factory=set)

    @property
    def run_dir(self) -> Path:
        """The run folder."""
        return self.folder / "run"

    def passes(self) -> int:
        """The rollouts that the engines served, for rows that were kept and for others."""
        log = self.folder / "log"
        return log.read_bytes().count(b"\n") if log.exists() else 0

    def execute(self, planned: list[str], pace: int) -> None:
        """Run to the end. The planned kills come one after every `pace` passes; a run with kills
        also dies at two of the driver's failpoints."""
        self.folder.mkdir()
        planned = list(planned)
        if planned:
            for point in self.rng.sample(DRIVER_POINTS, 2):
                self._arm(point)
        driver = self._start()
        due, since = pace, time.monotonic()
        deadline = since + LONGEST_RUN
        try:
            while (code := driver.poll()) not in (0, 3):
                self._count_fired()
                self.nodes.replace_dead_nodes()
                if not self.nodes.head_is_alive():
                    print("the head node ended by itself", flush=True)
                    driver = self._kill("head", driver)
                elif code is not None:
                    if code != -signal.SIGKILL:
                        self.gave_up += 1
                        print(f"a driver ended by itself: {code}", flush=True)
                    driver = self._start()
                late = time.monotonic() - since > LONGEST_PAUSE
                if planned and (self.passes() >= due or late):
                    driver = self._kill(planned.pop(0), driver)
                    # Counted from the plan and not from now: a kill can take as long as many
                    # passes.
                    due, since = due + pace, time.monotonic()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.folder}: the run does not come to its end")
                time.sleep(0.1)
        finally:
            driver.kill()
            driver.wait()
        self._count_fired()

    def _start(self) -> subprocess.Popen[bytes]:
        """The same command, with other numbers of actors and other batch sizes every time."""

        def one_of(name: str, *values: int) -> str:
            return f"{name}={self.rng.choice(values)}"

        actors = self.rng.randint(2, 4)
        command = [
            *(sys.executable, "-m", "jobs.generate", f"run_dir={self.run_dir}"),
            f"prompts.path={self.folder.parent / 'prompts.jsonl'}",
            f"lm.path=scripted?delay=0.05&log={self.folder / 'log'}",
            *("samples_per_prompt=2", "decoding.nabla.max_rollouts=4", "max_attempts=20"),
            *(f"cluster.address={self.nodes.address}", f"cluster.actors.min={actors}"),
            *(f"cluster.actors.max={actors}", one_of("cluster.in_flight", 4, 8, 16)),
            *(one_of("runtime.max_batch", 2, 8), one_of("store.flush_rows", 1, 4)),
            "store.flush_seconds=1",
        ]
        environment = os.environ | {"PYTHONFAULTHANDLER": "1"}
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output
            )

    def _kill(self, kind: str, driver: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Kill by SIGKILL; returns the driver that runs afterwards."""
        if kind in ("driver", "head"):
            if kind == "head":
                self.nodes.kill_cluster()
            driver.kill()
            driver.wait()
            driver = self._start()
        elif kind == "raylet":
            self.nodes.kill_node(self.rng)
        elif kind == "point":
            # Counted once a worker has died there.
            self._arm(self.rng.choice(WORKER_POINTS))
            return driver
        else:
            found = self.nodes.processes()
            chosen = found[kind] or found["actor"] or found["worker"]
            if not chosen:
                return driver
            self.rng.choice(chosen).kill()
        self.kills[kind] += 1
        return driver

    def _arm(self, point: str) -> None:
        """Make the next process that reaches this failpoint die there."""
        token = _token(self.folder.parent, point)
        token.touch()
        self._armed.add(token)

    def _count_fired(self) -> None:
        """A process deletes the token of its failpoint before it dies there."""
        fired = {token for token in self._armed if not token.exists()}
        self.kills["point"] += len(fired)
        self._armed -= fired
