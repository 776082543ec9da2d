"""One run of `jobs.generate` during which processes are killed and suspended, until it is
complete."""

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

import psutil

from pipeline.store.claims import newest_claim
from pipeline.store.files import Folder
from tests.chaos.freezes import Freezes
from tests.chaos.nodes import Nodes

ROOT = Path(__file__).parents[2]
COMMIT_STEPS = ("before-write", "after-write", "before-rename", "after-rename")
WORKER_POINTS = tuple(f"{step} parts" for step in COMMIT_STEPS)
DRIVER_POINTS = (
    *(f"{step} data" for step in COMMIT_STEPS),
    *("between-data-and-dead", "before-rename dead_letter", "before-success"),
    *("before-rename manifest.json", "before-delete parts"),
    *("before-rename _SUCCESS", "after-rename _SUCCESS", "after-success"),
)
# A kill comes so many seconds after the last one even if the engines serve no rollouts.
LONGEST_PAUSE = 60.0
LONGEST_RUN = 1200.0
# A process is suspended for so many seconds at least.
SHORTEST_FREEZE = 5.0
# Another machine takes the folder over after so many seconds of silence.
LEASE_SECONDS = 4
# A driver that goes on after another one took over ends by itself within so many seconds. Ray takes
# a minute to notice that its head is gone.
ENDING_SECONDS = 180.0


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

    `kills` counts the kills and freezes by kind, `gave_up` the drivers that ended although neither
    they nor their head node were killed. A freeze takes at most `longest_freeze` seconds.
    `replaced` counts, by exit code, the drivers that were suspended while they held the folder and
    went on after another one had taken it over; `hung` those that did not end then.
    """

    folder: Path
    nodes: Nodes
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    longest_freeze: float = 60.0
    gave_up: int = 0
    replaced: Counter[int] = field(default_factory=Counter)
    hung: int = 0
    _machine: int = 0
    _freezes: Freezes = field(default_factory=Freezes)
    _frozen_drivers: list[tuple[subprocess.Popen[bytes], bool]] = field(default_factory=list)
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
                self._freezes.thaw_due()
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
            self._freezes.thaw_all()
            self._await_replaced()
        self._count_fired()

    def _await_replaced(self) -> None:
        for driver, held in self._frozen_drivers:
            try:
                code = driver.wait(ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                self.hung += 1
                driver.kill()
                driver.wait()
            else:
                # One that did not hold the folder may have found it complete.
                self.replaced[code] += held

    def _start(self) -> subprocess.Popen[bytes]:
        """The same command, with other numbers of actors and other batch sizes every time."""

        def one_of(name: str, *values: int) -> str:
            return f"{name}={self.rng.choice(values)}"

        actors = self.rng.randint(2, 4)
        command = [
            *(sys.executable, "-m", "tests.chaos.another_machine", f"machine-{self._machine}"),
            f"run_dir={self.run_dir}",
            f"prompts.path={self.folder.parent / 'prompts.jsonl'}",
            f"lm.path=scripted?delay=0.05&log={self.folder / 'log'}",
            *("samples_per_prompt=2", "decoding.nabla.max_rollouts=4", "max_attempts=20"),
            *(f"cluster.address={self.nodes.address}", f"cluster.actors.min={actors}"),
            *(f"cluster.actors.max={actors}", one_of("cluster.in_flight", 4, 8, 16)),
            *(one_of("runtime.max_batch", 2, 8), one_of("store.flush_rows", 1, 4)),
            *("store.flush_seconds=1", f"store.lease_seconds={LEASE_SECONDS}"),
        ]
        environment = os.environ | {"PYTHONFAULTHANDLER": "1"}
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output
            )

    def _kill(self, kind: str, driver: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Kill by SIGKILL, or suspend; returns the driver that runs afterwards."""
        if kind in ("driver", "head"):
            if kind == "head":
                self.nodes.kill_cluster()
            driver.kill()
            driver.wait()
            driver = self._start()
        elif kind == "raylet":
            self.nodes.kill_node(self.nodes.random_node(self.rng))
        elif kind == "freeze_driver":
            driver = self._replace(driver)
        elif kind.startswith("freeze_"):
            if not self._freeze(kind.removeprefix("freeze_")):
                return driver
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

    def _replace(self, driver: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Suspend the driver until another one, on another machine, has taken the folder over."""
        folder = Folder(str(self.run_dir))

        def newest() -> int:
            claim = newest_claim(folder)
            return claim.number if claim else 0

        process = psutil.Process(driver.pid)
        process.suspend()
        claim = newest_claim(folder)
        held = claim.held if claim else None
        holds = held is not None and held.pid == driver.pid and not held.released
        number = claim.number if claim else 0
        self._freezes.freeze(process, self._freeze_seconds(), lambda: newest() > number)
        self._frozen_drivers.append((driver, holds))
        self._machine += 1
        return self._start()

    def _freeze(self, kind: str) -> bool:
        """Suspend a process of this kind; False if there is none. `lost_actor` is an actor whose
        node is killed meanwhile, so that Ray has it declared dead when it goes on."""
        if kind == "raylet":
            raylet = self.nodes.raylet(self.nodes.random_node(self.rng))
            self._freezes.freeze(raylet, self._freeze_seconds())
            return True
        node = self.nodes.random_node(self.rng) if kind == "lost_actor" else None
        found = self.nodes.processes(node)[kind.removeprefix("lost_")]
        if not found:
            return False
        self._freezes.freeze(self.rng.choice(found), self._freeze_seconds())
        if node is not None:
            self.nodes.kill_node(node)
        return True

    def _freeze_seconds(self) -> float:
        return self.rng.uniform(SHORTEST_FREEZE, self.longest_freeze)

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
