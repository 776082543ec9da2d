"""Ctrl-C and SIGTERM: the first one ends a command gently, the second one at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from jobs.exit_codes import ExitCode

# A terminal, `make` and batch systems send a signal to the group and again to the process.
SAME_SECONDS = 1.0

_GENTLE = "stopping, flushing ... (again to abort)"
_AT_ONCE = "aborting; rows that were not committed yet are made again by the next run"


@contextmanager
def interruptible() -> Iterator[None]:
    """A block that SIGINT and SIGTERM interrupt by KeyboardInterrupt, with an answer at once.

    Slurm and Kubernetes send SIGTERM before they kill, and rows that wait can be committed in that
    time. The second signal interrupts what the first one has begun, and the third one ends the
    process.
    """
    interrupt = _Interrupt()
    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGINT, signal.SIGTERM)
        # A shell lets what it starts in the background ignore Ctrl-C.
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupted(KeyboardInterrupt):
    """A command that was interrupted; the message is its last line."""


@contextmanager
def named(where: Callable[[], str]) -> Iterator[None]:
    """Let the last line of an interrupted block say `where()` it stands."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted: {where()}; the same command continues from it") from error


class _Interrupt:
    """The handler of both signals."""

    def __init__(self) -> None:
        self._count = 0
        self._last = 0.0

    def __call__(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self._count and now - self._last < SAME_SECONDS:
            return
        self._count, self._last = self._count + 1, now
        if self._count > 2:
            os._exit(ExitCode.INTERRUPTED)
        _answer(_GENTLE if self._count == 1 else _AT_ONCE)
        raise KeyboardInterrupt


def _answer(text: str) -> None:
    # Not through the console: the signal may have come while it writes, and it cannot be entered
    # twice. On a terminal the line takes the place of the live one.
    start = "\r\x1b[K" if os.isatty(2) else ""
    with suppress(OSError):
        os.write(2, f"{start}{text}\n".encode())
