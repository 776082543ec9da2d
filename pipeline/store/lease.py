"""The lease of a run folder: at most one driver writes to it at a time.

The lease is a numbered file; the driver that creates the next number holds the folder. The holder
rewrites its file every `ttl` / 4 seconds. A second driver that finds the file decides whether its
holder is alive:

    same machine       by the process id, at once
    another machine    by watching the file for `ttl` seconds: a change means alive

It compares the file with itself and not a time in it with its own clock, since the clocks of two
machines may differ by more than `ttl`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import LeaseError
from pipeline.store.files import Folder

LEASE = "lease"
# Not SIGINT: a process that a shell started in the background ignores it.
LEASE_LOST = signal.SIGUSR2
LOG = logging.getLogger(__name__)


class Lease:
    """Holds a run folder until `release`, or until the process dies.

    A thread calls `on_lost` if another driver took the folder over. That happens only if this
    process did not run for more than `ttl` seconds (suspended, or cut off from the store).
    Raises LeaseError if the folder is held.
    """

    def __init__(self, folder: Folder, ttl: float, on_lost: Callable[[], None]) -> None:
        self._folder = folder
        self._ttl = ttl
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._heartbeat = 0
        number = _next_number(folder, ttl)
        self._name = _claim(folder, number, self._content())
        # Claims of former holders. Deleted only now: the numbers must grow, or a driver that was
        # suspended could take this claim for its own.
        for name, _ in _claims(folder):
            if name < self._name:
                folder.delete(name)
        self._thread = threading.Thread(target=self._renew_until_stopped, name="lease", daemon=True)
        self._thread.start()

    def is_held(self) -> bool:
        """Whether the newest claim is this one: no other driver took over."""
        claims = _claims(self._folder)
        return bool(claims) and claims[-1][0] == self._name

    def release(self) -> None:
        """Stop renewing, and let the next driver take the folder at once."""
        self._stop.set()
        self._thread.join()
        if self.is_held():
            try:
                self._folder.write(self._name, self._content(released=True))
            except OSError as error:
                # On a full disk a file can be deleted but not written; without a claim the folder
                # is as free as with a released one.
                LOG.warning("%s: the lease is deleted, not released: %s", self._folder.uri, error)
                self._folder.delete(self._name)

    def _renew_until_stopped(self) -> None:
        while not self._stop.wait(self._ttl / 4):
            try:
                if not self.is_held():
                    self._on_lost()
                    return
                self._heartbeat += 1
                self._folder.write(self._name, self._content())
            except Exception as error:  # noqa: BLE001 - the thread must not end unnoticed
                # Not fatal here: rows cannot be committed either, and that ends the run.
                LOG.warning("%s: the lease was not renewed: %s", self._folder.uri, error)

    def _content(self, released: bool = False) -> bytes:
        holder = {**_holder(), "heartbeat": self._heartbeat, "ttl": self._ttl, "released": released}
        return json.dumps(holder).encode()


@contextmanager
def hold_lease(folder: Folder, ttl: float) -> Iterator[Lease]:
    """Hold the lease during the block, which must run in the main thread.

    If another driver takes over, the block is interrupted and LeaseError is raised. Raises
    LeaseError at the start if the folder is held.
    """
    lost = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def on_lost() -> None:
        lost.set()
        # A signal reaches the block wherever it waits, in Ray Train for example; an exception can
        # only be raised by the thread itself.
        signal.pthread_kill(main, LEASE_LOST)

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(LEASE_LOST, interrupt)
    try:
        lease = Lease(folder, ttl, on_lost)
        try:
            yield lease
        except KeyboardInterrupt as interrupted:
            if lost.is_set():
                raise LeaseError(f"{folder.uri} was taken over by another driver") from interrupted
            raise
        finally:
            lease.release()
    finally:
        signal.signal(LEASE_LOST, before)


def holder(folder: Folder) -> str | None:
    """The process that holds the folder, for people; None if the folder is free.

    Reads once and does not wait: a holder on another machine counts as alive.
    """
    newest = _newest(folder)
    if newest is None or newest.content["released"]:
        return None
    crashed = _same_machine(newest.content) and not _alive(newest.content)
    return None if crashed else _describe(newest.content)


def _next_number(folder: Folder, ttl: float) -> int:
    """The number of the next claim. Raises LeaseError if the present holder is alive."""
    newest = _newest(folder)
    if newest is None:
        return 1
    free = newest.content["released"]
    if not free and _same_machine(newest.content):
        if _alive(newest.content):
            raise LeaseError(f"{folder.uri} is held by {_describe(newest.content)}")
        free = True
    # The holder renews by its own ttl, which may be the longer one.
    deadline = time.monotonic() + max(ttl, float(newest.content["ttl"]))
    while not free and time.monotonic() < deadline:
        time.sleep(min(1.0, ttl / 10))
        now = _newest(folder)
        if now != newest:
            if now is None or now.content["released"]:
                return _next_number(folder, ttl)
            raise LeaseError(f"{folder.uri} is held by {_describe(now.content)}")
    return newest.number + 1


def _claim(folder: Folder, number: int, content: bytes) -> str:
    """Write the claim with this number; returns its name. Of several drivers that claim the same
    number at most one succeeds, the others raise LeaseError."""
    if folder.local:
        name = f"{LEASE}/{number:08d}.json"
        if not folder.create(name, content):
            raise LeaseError(f"{folder.uri} was just taken by {holder(folder)}")
        return name
    # Not every object store can create a file exclusively, but listings are consistent: if two
    # drivers each write a claim and then list, at least one of them sees the other and gives way.
    # Both may; then the user tries again.
    name = f"{LEASE}/{number:08d}-{uuid.uuid4().hex}.json"
    folder.write(name, content)
    if [n for n, other in _claims(folder) if other >= number] != [name]:
        folder.delete(name)
        raise LeaseError(f"{folder.uri} is being taken by another driver; try again")
    return name


@dataclass(frozen=True)
class _Claim:
    name: str
    number: int
    content: dict[str, Any]


def _newest(folder: Folder) -> _Claim | None:
    while claims := _claims(folder):
        name, number = claims[-1]
        try:
            return _Claim(name, number, json.loads(folder.read(name)))
        except FileNotFoundError:  # deleted by the next holder since it was listed
            continue
    return None


def _claims(folder: Folder) -> list[tuple[str, int]]:
    names = (file.name for file in folder.files(LEASE))
    return [(n, int(Path(n).name[:8])) for n in names if n.endswith(".json")]


def _holder() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
    }


def _machine() -> str:
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


def _same_machine(content: dict[str, Any]) -> bool:
    return bool(content["machine"] == _machine())


def _alive(content: dict[str, Any]) -> bool:
    try:
        os.kill(content["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, and another user's
        return True
    return bool(_started(content["pid"]) == content["started"])


def _describe(content: dict[str, Any]) -> str:
    return f"process {content['pid']} on {content['host']}"
