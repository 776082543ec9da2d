"""Which prompts are in flight where, and how often each one alone killed its process.

A process that dies takes all its prompts with it, and one of them may be the cause. They
become suspects, are put off, and later run alone, where a death is their own doing. Deaths
of whole nodes count against nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Key = tuple[str, int]


@dataclass(frozen=True)
class Verdict:
    """May a prompt run? `later`: alone, in another round. `again`: its row is committed, only
    the news of it was lost. `attempt` counts from 1; `reason` says why it is given up."""

    action: Literal["run", "later", "again", "give_up", "stop"]
    attempt: int = 1
    reason: str = ""


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
        self._suspects: dict[Key, None] = {}
        self._ended: set[Key] = set()
        self._reasons: dict[str, str] = {}
        self._loaded = False
        self._unflushed: set[str] = set()
        self._stopped = False

    def begin(self, key: Key, place: Place, alone: bool) -> Verdict:
        """Ask before working on a prompt."""
        if self._stopped:
            return Verdict("stop")
        if key in self._ended:
            return Verdict("again")
        before = self._running.pop(key, None)
        if before is not None and before != place:
            self._unflushed.discard(before.worker)
        if before is not None and before != place and self._node_alive(before.node):
            self._suspects[key] = None
            self._attempts[key] += alone
            if self._attempts[key] >= self._max_attempts:
                return Verdict("give_up", self._attempts[key], self._reason(key, before))
        if key in self._suspects and not alone:
            return Verdict("later")
        self._running[key] = place
        return Verdict("run", self._attempts[key] + 1)

    def end(self, key: Key) -> None:
        """The prompt's row is committed."""
        self._ended.add(key)
        self._running.pop(key, None)
        self._suspects.pop(key, None)

    def suspects(self, missing: Iterable[Key]) -> list[Key]:
        """Which of the prompts whose rows are missing after a round must run alone."""
        missing = set(missing)
        self._ended -= missing
        return [key for key in self._suspects if key in missing]

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
