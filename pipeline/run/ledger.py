"""Which prompts are in flight where, and how often each one alone killed its process.

A process that dies takes all its prompts with it, and one of them may be the cause. They
become suspects, are put off, and later run in eighths, a group at a time in a process. A
group whose process dies is divided again; alone, a death is a prompt's own doing, and only
such deaths count. Deaths of whole nodes count against nobody.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Key = tuple[str, int]

# A chance death costs eight small batches, a culprit among 96 two more deaths than alone.
PIECES = 8


@dataclass(frozen=True)
class Decision:
    """Whether a prompt may run. `later`: apart from others, in another round. `again`: its row is
    committed, only the news of it was lost; `reason` is then the error of a dead one.
    `attempt` counts from 1; `reason` also says why a prompt is given up."""

    action: Literal["run", "later", "again", "give_up", "stop"]
    attempt: int = 1
    reason: str | None = None


@dataclass(frozen=True)
class Place:
    """A worker process: no two have the same name, ever."""

    worker: str
    node: str


class Ledger:
    """`node_alive(node)` tells whether a node of the cluster lives."""

    def __init__(self, max_attempts: int, node_alive: Callable[[str], bool]) -> None:
        self._max_attempts = max_attempts
        self._node_alive = node_alive
        self._running: dict[Key, Place] = {}
        self._attempts: Counter[Key] = Counter()
        self._suspects: dict[Key, str] = {}
        self._ended: dict[Key, str | None] = {}
        self._reasons: dict[str, str] = {}
        self._loaded = False
        self._unflushed: set[str] = set()
        self._stopped = False

    def begin(self, key: Key, place: Place, group: int) -> Decision:
        """Ask before working on a prompt. `group`: how many suspects share the process with
        it, itself among them; 0 where anything does."""
        if self._stopped:
            return Decision("stop")
        if key in self._ended:
            return Decision("again", reason=self._ended[key])
        before = self._running.pop(key, None)
        if before is not None and before != place:
            self._unflushed.discard(before.worker)
            if self._node_alive(before.node):
                self._suspects[key] = before.worker
                self._attempts[key] += group == 1
                if self._attempts[key] >= self._max_attempts:
                    return Decision("give_up", self._attempts[key], self._reason(key, before))
                if group > 1:
                    return Decision("later")
        if key in self._suspects and group == 0:
            return Decision("later")
        self._running[key] = place
        return Decision("run", self._attempts[key] + 1)

    def end(self, key: Key, error: str | None = None) -> None:
        """The prompt's row is committed; `error` is that of a dead one."""
        self._ended[key] = error
        self._running.pop(key, None)
        self._suspects.pop(key, None)

    def suspects(self, missing: Iterable[Key]) -> list[list[Key]]:
        """The suspects among the prompts whose rows are missing after a round, as the groups
        they must run in: what died together, divided."""
        missing = set(missing)
        for key in missing:
            self._ended.pop(key, None)
        died: dict[str, list[Key]] = {}
        for key, worker in self._suspects.items():
            if key in missing:
                died.setdefault(worker, []).append(key)
        return [piece for keys in died.values() for piece in _divided(keys)]

    def blame(self, worker: str, reason: str) -> None:
        """A worker says why it is about to end itself."""
        self._reasons[worker] = reason

    def loaded(self, worker: str) -> None:
        """A worker has loaded its models."""
        self._loaded = True
        self._unflushed.add(worker)

    def ever_loaded(self) -> bool:
        """Whether any worker could load its models."""
        return self._loaded

    def stop(self) -> None:
        """Let no prompt begin any more."""
        self._stopped = True

    def flushed(self, worker: str) -> None:
        """A worker has committed what waited when the run was stopped."""
        self._unflushed.discard(worker)

    def all_flushed(self) -> bool:
        """Whether every worker has."""
        return not self._unflushed

    def stopped(self) -> bool:
        """Whether the run is being stopped."""
        return self._stopped

    def _reason(self, key: Key, place: Place) -> str:
        why = self._reasons.get(place.worker, "killed, crashed or out of memory")
        return f"WorkerDied: {self._attempts[key]} processes died on it alone; the last: {why}"


def _divided(keys: list[Key]) -> list[list[Key]]:
    size = math.ceil(len(keys) / PIECES)
    return [keys[start : start + size] for start in range(0, len(keys), size)]
