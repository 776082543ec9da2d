"""Which prompts run where, and how many processes each prompt alone has crashed.

A process that crashes takes all its prompts with it, and any one of them may be the cause. They
become suspects: they are deferred, and a later round runs them in groups of an eighth, one group
at a time in a process of its own. A group whose process crashes is divided again. A crash of a
prompt that runs alone is its own, and only such crashes count as attempts. The death of a whole
node counts against no prompt.

The ledger knows the prompts of tasks that the driver has no report of yet, and the suspects. So its
size does not grow with that of the run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from nabla_core.types import Identity
from pipeline.run.prompt_status import Key

# With eighths, a crash by chance costs eight small batches, and a culprit among 96 prompts is
# alone after two more crashes.
PIECES = 8


class Action(StrEnum):
    """What a worker does with a prompt."""

    RUN = "run"
    DEFER = "defer"
    """Leave a suspect to a later round, in which it runs isolated."""
    SKIP = "skip"
    """Its row is committed; the report of that was lost."""
    GIVE_UP = "give_up"
    """Commit a dead letter: it crashed its own process too often."""
    STOP = "stop"
    """The run is being stopped."""


@dataclass(frozen=True)
class Decision:
    """The ledger's answer. `attempt` counts from 1. `reason` says why a prompt is given up, or is
    the error of the dead letter that is skipped."""

    action: Action
    attempt: int = 1
    reason: str | None = None


@dataclass(frozen=True)
class Process:
    """A worker process, whose name is unique, and its node."""

    worker: str
    node: str


class Ledger:
    """See the module. `node_alive(node)` returns whether a node of the cluster is alive."""

    def __init__(self, max_attempts: int, node_alive: Callable[[str], bool]) -> None:
        self._max_attempts = max_attempts
        self._node_alive = node_alive
        self._running: dict[Key, Process] = {}
        self._attempts: Counter[Key] = Counter()
        self._suspects: dict[Key, str] = {}
        self._ended: dict[Key, str | None] = {}
        self._reasons: dict[str, str] = {}
        self._placed = 0
        self._loaded = False
        self._unflushed: set[str] = set()
        self._stopped = False
        self._draining = False
        self._models: dict[str, Identity] = {}

    def begin(self, key: Key, process: Process, group: int) -> Decision:
        """Decide on a prompt before a worker starts it. `group`: the number of suspects in the
        process, this one included; 0 where the process takes any prompt."""
        if self._stopped or self._draining:
            return Decision(Action.STOP)
        if key in self._ended:
            return Decision(Action.SKIP, reason=self._ended[key])
        # Ray runs a task again only after its process died. So a prompt that is still entered
        # as running elsewhere was lost in a crash.
        before = self._running.pop(key, None)
        if before is not None and before != process:
            self._unflushed.discard(before.worker)
            if self._node_alive(before.node):
                self._suspects[key] = before.worker
                if group == 1:
                    self._attempts[key] += 1
                if self._attempts[key] >= self._max_attempts:
                    reason = self._reason(key, before)
                    return Decision(Action.GIVE_UP, self._attempts[key], reason)
                if group > 1:
                    return Decision(Action.DEFER)
        if key in self._suspects and group == 0:
            return Decision(Action.DEFER)
        self._running[key] = process
        return Decision(Action.RUN, self._attempts[key] + 1)

    def end(self, key: Key, error: str | None = None) -> None:
        """The prompt's row is committed; `error` is that of a dead letter."""
        self._ended[key] = error
        self._running.pop(key, None)
        self._suspects.pop(key, None)
        self._attempts.pop(key, None)

    def reported(self, keys: Iterable[Key]) -> None:
        """The driver has the report of a task with these prompts: Ray runs it no more."""
        for key in keys:
            self._ended.pop(key, None)

    def open_keys(self) -> list[Key]:
        """The suspects, and the prompts that were running when their process died."""
        return list(self._suspects | self._running)

    def suspects(self, missing: Iterable[Key]) -> list[list[Key]]:
        """The suspects after a round, in the groups that they must run in: what crashed together
        is divided. `missing` are those of `open_keys` whose rows are missing."""
        # The rows of the others were committed, and the report of that was lost. What was reported
        # as committed and is missing all the same runs again: its file is damaged or gone.
        self._ended.clear()
        missing = set(missing)
        for known in (self._running, self._suspects, self._attempts):
            for key in known.keys() - missing:
                del known[key]
        crashed: dict[str, list[Key]] = {}
        for key, worker in self._suspects.items():
            crashed.setdefault(worker, []).append(key)
        return [piece for keys in crashed.values() for piece in _divided(keys)]

    def blame(self, worker: str, reason: str) -> None:
        """Note why a worker is about to end its own process."""
        self._reasons[worker] = reason

    def add_placed(self) -> None:
        """Count a worker whose process has started."""
        self._placed += 1

    def placed(self) -> int:
        """How many worker processes have started."""
        return self._placed

    def loaded(self, worker: str) -> None:
        """Note that a worker has loaded its models."""
        self._loaded = True
        self._unflushed.add(worker)

    def agree(self, models: Mapping[str, Identity]) -> dict[str, Identity]:
        """The models of the run by role: those that the first worker with this role has loaded."""
        self._models = {**models, **self._models}
        return self._models

    def ever_loaded(self) -> bool:
        """Whether any worker could load its models."""
        return self._loaded

    def drain(self) -> None:
        """Let no further prompt start, and the workers finish those that have started."""
        self._draining = True

    def stop(self) -> None:
        """Let no further prompt start, and the workers commit what is finished and give up the
        others."""
        self._stopped = True

    def stopped(self) -> bool:
        """Whether the run is being stopped."""
        return self._stopped

    def flushed(self, worker: str) -> None:
        """Note that a worker of a stopped run has committed all rows that waited."""
        self._unflushed.discard(worker)

    def all_flushed(self) -> bool:
        """Whether all workers of a stopped run have committed the rows that waited."""
        return not self._unflushed

    def _reason(self, key: Key, process: Process) -> str:
        why = self._reasons.get(process.worker, "killed, crashed or out of memory")
        return f"WorkerDied: {self._attempts[key]} processes died on it alone; the last: {why}"


def _divided(keys: list[Key]) -> list[list[Key]]:
    size = math.ceil(len(keys) / PIECES)
    return [keys[start : start + size] for start in range(0, len(keys), size)]
