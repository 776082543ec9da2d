"""Named points at which a process can be made to die, to prove that nothing is lost there.

`NABLA_CRASH_AT="after-write parts|/tmp/token"` kills the first process that reaches a
point of that beginning while the token file exists; the file is removed, so it dies once.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "NABLA_CRASH_AT"


def point(name: str) -> None:
    """Die here by SIGKILL if asked to."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    prefix, _, token = wanted.partition("|")
    if not name.startswith(prefix):
        return
    try:
        os.unlink(token)
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def carried() -> dict[str, str]:
    """The variable, where set, for processes that do not inherit it."""
    return {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}
