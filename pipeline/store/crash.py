"""Named points at which a process can be made to die, to prove that nothing is lost there.

`NABLA_CRASH_AT="after-write parts|/tmp/token"` kills the first process that reaches a
point of that beginning while the token file exists; the file is removed, so it dies once.
Several such pairs are separated by semicolons.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "NABLA_CRASH_AT"


def point(name: str) -> None:
    """Die here by SIGKILL if asked to."""
    for wanted in filter(None, os.environ.get(VARIABLE, "").split(";")):
        prefix, _, token = wanted.partition("|")
        if name.startswith(prefix) and _taken(token):
            os.kill(os.getpid(), signal.SIGKILL)


def _taken(token: str) -> bool:
    try:
        os.unlink(token)
    except FileNotFoundError:
        return False
    return True


def carried() -> dict[str, str]:
    """The variable, where set, for processes that do not inherit it."""
    return {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}
