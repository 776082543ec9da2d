"""Processes that are suspended for a while and then go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

# A process that goes on after the run has ended so many seconds to write what it must not.
LATE_SECONDS = 10.0


@dataclass(frozen=True)
class Frozen:
    """A suspended process, and from when and under which condition it goes on."""

    process: psutil.Process
    due: float
    may_go_on: Callable[[], bool]


@dataclass
class Freezes:
    """The processes that are suspended now."""

    _frozen: list[Frozen] = field(default_factory=list)

    def freeze(
        self,
        process: psutil.Process,
        seconds: float,
        may_go_on: Callable[[], bool] = lambda: True,
    ) -> None:
        """Suspend a process for so many seconds, and for as long as it must not go on."""
        with suppress(psutil.NoSuchProcess):
            process.suspend()
            self._frozen.append(Frozen(process, time.monotonic() + seconds, may_go_on))

    def thaw_due(self) -> None:
        """Let those go on whose time is over."""
        now = time.monotonic()
        due = [each for each in self._frozen if each.due <= now and each.may_go_on()]
        self._frozen = [each for each in self._frozen if each not in due]
        _resume(due)

    def thaw_all(self) -> None:
        """Let all go on, and give them some time to end."""
        frozen, self._frozen = self._frozen, []
        _resume(frozen)
        psutil.wait_procs([each.process for each in frozen], timeout=LATE_SECONDS)


def _resume(frozen: list[Frozen]) -> None:
    for each in frozen:
        with suppress(psutil.NoSuchProcess):
            each.process.resume()
