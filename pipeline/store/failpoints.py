"""Failpoints: named places where a test can make a process die or stand still.

`NABLA_FAILPOINTS="after-write parts|/tmp/token"` kills the first process that reaches a
failpoint whose name begins with "after-write parts", provided the token file exists. The
process deletes the token file before it dies, so the failpoint fires once. With a third field,
`name|token|SIGSTOP`, the process gets that signal instead. Semicolons separate several entries.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "NABLA_FAILPOINTS"


def failpoint(name: str) -> None:
    """Send this process a signal, SIGKILL by default, if `NABLA_FAILPOINTS` names this
    failpoint."""
    for entry in filter(None, os.environ.get(VARIABLE, "").split(";")):
        prefix, token, *number = entry.split("|")
        if name.startswith(prefix) and _delete(token):
            os.kill(os.getpid(), signal.Signals[number[0] if number else "SIGKILL"])


def failpoint_environment() -> dict[str, str]:
    """The variable, if it is set, for child processes that do not inherit the environment."""
    return {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}


def _delete(token: str) -> bool:
    """Whether this process deleted the token file. Of several processes only one succeeds."""
    try:
        os.unlink(token)
    except FileNotFoundError:
        return False
    return True
