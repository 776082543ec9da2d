"""The claims on a run folder: who holds it, as far as its files tell.

A claim is a file whose name holds a number. The highest number is that of the present holder, or of
the last one. See `store.lease` for what a driver does with them.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import LeaseError
from pipeline.store.files import LEASE, Folder

# A claim that ends in `released` was released on a full disk, on which it could not be rewritten.
_NAME = re.compile(r"(\d{8,})(-[^.]+)?\.(json|released)")


def holder(folder: Folder) -> str | None:
    """The process that holds the folder, for people; None if the folder is free.

    Reads once and does not wait: a holder on another machine counts as alive.
    """
    newest = newest_claim(folder)
    held = newest.held if newest else None
    if held is None or held.released or (on_this_machine(held) and not _is_alive(held)):
        return None
    return _describe(held)


def next_number(folder: Folder, ttl: float) -> int:
    """The number of the next claim. Raises LeaseError if the present holder is alive."""
    newest = newest_claim(folder)
    if newest is None:
        return 1
    held = newest.held
    free = held is not None and held.released
    if held is not None and not free and on_this_machine(held):
        if _is_alive(held):
            raise LeaseError(f"{folder.uri} is held by {_describe(held)}")
        free = True
    # The holder renews by its own ttl, which may be the longer one.
    deadline = time.monotonic() + max(ttl, held.ttl if held is not None else 0.0)
    while not free and time.monotonic() < deadline:
        time.sleep(min(1.0, ttl / 10))
        now = newest_claim(folder)
        if now != newest:
            if now is None or now.held is None or now.held.released:
                return next_number(folder, ttl)
            raise LeaseError(f"{folder.uri} is held by {_describe(now.held)}")
    return newest.number + 1


def create_claim(folder: Folder, number: int, content: bytes) -> str:
    """Write the claim with this number; returns its name. Of several drivers that claim the same
    number at most one succeeds, the others raise LeaseError."""
    if folder.local:
        name = f"{LEASE}/{number:08d}.json"
        if not folder.create(name, content):
            raise LeaseError(f"{folder.uri} was just taken by {holder(folder)}")
    else:
        # Not every object store can create a file exclusively, but listings are consistent: if two
        # drivers each write a claim and then list, at least one of them sees the other and gives
        # way. Both may; then the user tries again.
        name = f"{LEASE}/{number:08d}-{uuid.uuid4().hex}.json"
        folder.write(name, content)
    # On a local disk too: since the number was chosen, it may have been claimed, released and
    # deleted by the holder of the next one.
    if [n for n, found in list_claims(folder) if found >= number] != [name]:
        folder.delete(name)
        raise LeaseError(f"{folder.uri} is being taken by another driver; try again")
    return name


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The holder that a claim names. `started`: a later process may have the same id."""

    host: str
    machine: str
    pid: int
    started: str | None
    ttl: float
    heartbeat: int = 0
    released: bool = False


@dataclass(frozen=True)
class Claim:
    """A claim's file. `held` is None where its content is no claim."""

    name: str
    number: int
    content: bytes
    held: Holder | None


def newest_claim(folder: Folder) -> Claim | None:
    while claims := list_claims(folder):
        name, number = claims[-1]
        try:
            content = folder.read(name)
        except FileNotFoundError:  # deleted by the next holder since it was listed
            continue
        held = _parse(content)
        if held is not None and name.endswith(".released"):
            held = replace(held, released=True)
        return Claim(name, number, content, held)
    return None


def _parse(content: bytes) -> Holder | None:
    try:
        held = Holder(**json.loads(content))
        whole = (
            all(isinstance(text, str) for text in (held.host, held.machine))
            and type(held.pid) is int
            and 0 < held.pid < 1 << 31
            and math.isfinite(held.ttl)
            and isinstance(held.released, bool)
        )
    except (ValueError, TypeError, RecursionError):
        return None
    return held if whole else None


def list_claims(folder: Folder) -> list[tuple[str, int]]:
    """Names and numbers of all claims, the newest last. Other files in the folder are ignored."""
    found = ((file.name, _NAME.fullmatch(Path(file.name).name)) for file in folder.files(LEASE))
    claims = ((name, int(match[1])) for name, match in found if match)
    return sorted(claims, key=lambda claim: (claim[1], claim[0]))


def this_process(ttl: float) -> Holder:
    pid = os.getpid()
    return Holder(
        host=socket.gethostname(), machine=machine(), pid=pid, started=_started(pid), ttl=ttl
    )


def machine() -> str:
    """The running kernel and process namespace. Process ids of two drivers can be compared only if
    these are the same; a host name alone is shared by all containers of an image."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    if boot.exists() and namespace.exists():
        return f"{boot.read_text().strip()}/{namespace.stat().st_ino}"
    return f"{socket.gethostname()}/{uuid.getnode():x}"


def _started(pid: int) -> str | None:
    """The start time of a process: a later process may have the same id, but not the same start."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def on_this_machine(held: Holder) -> bool:
    return held.machine == machine()


def _is_alive(held: Holder) -> bool:
    try:
        os.kill(held.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, and another user's
        return True
    return _started(held.pid) == held.started


def _describe(held: Holder) -> str:
    return f"process {held.pid} on {held.host}"
