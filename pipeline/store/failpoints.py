"""Failpoints: named places where a test can make a process die.

`NABLA_FAILPOINTS="after-write parts|/tmp/token"` kills the first process that reaches a
failpoint whose name begins with "after-write parts", provided the token file exists. The
process deletes the token file before it dies, so the failpoint fires once. Semicolons separate
several `name|token` pairs.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "NABLA_FAILPOINTS"


def failpoint(name: str) -> None:
    """Kill this process with SIGKILL if `NABLA_FAILPOINTS` names this failpoint."""
    for pair in filter(None, os.environ.get(VARIABLE, "").split(";")):
        prefix, _, token = pair.partition("|")
        if name.startswith(prefix) and _delete(token):
            os.kill(os.getpid(), signal.SIGKILL)


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
