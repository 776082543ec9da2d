"""One driver a run folder.

The lease is a file with a number; whoever creates the next number holds the folder. The
holder rewrites its file now and then. A challenger on the same machine asks whether the
holder's process lives; one elsewhere watches for `ttl` seconds whether the file changes,
so no two clocks are compared.
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
TAKEN = signal.SIGUSR2
LOG = logging.getLogger(__name__)


class Lease:
    """Holds a run folder until `release`, or until the process dies.

    `lost` is called from a thread if another driver took over, which happens only when
    this process stood still for longer than `ttl` seconds. Raises LeaseError.
    """

    def __init__(self, folder: Folder, ttl: float, lost: Callable[[], None]) -> None:
        self._folder = folder
        self._ttl = ttl
        self._lost = lost
        self._stop = threading.Event()
        self._beat = 0
        number = _challenge(folder, ttl)
        self._name = _claim(folder, number, self._content())
        for name, _ in _claims(folder):
            if name < self._name:
                folder.delete(name)
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def held(self) -> bool:
        """Whether the newest claim is still ours."""
        claims = _claims(self._folder)
        return bool(claims) and claims[-1][0] == self._name

    def release(self) -> None:
        """Let the next driver in at once."""
        self._stop.set()
        self._thread.join()
        if self.held():
            try:
                self._folder.write(self._name, self._content(released=True))
            except OSError as error:  # a full disk, say: no claim is as good as a released one
                LOG.warning("%s: the lease is deleted, not released: %s", self._folder.uri, error)
                self._folder.delete(self._name)

    def _keep(self) -> None:
        while not self._stop.wait(self._ttl / 4):
            try:
                if not self.held():
                    self._lost()
                    return
                self._beat += 1
                self._folder.write(self._name, self._content())
            except OSError as error:  # nothing else can be written either, and ends the run
                LOG.warning("%s: the lease was not renewed: %s", self._folder.uri, error)

    def _content(self, released: bool = False) -> bytes:
        holder = {**_holder(), "beat": self._beat, "ttl": self._ttl, "released": released}
        return json.dumps(holder).encode()


@contextmanager
def held(folder: Folder, ttl: float) -> Iterator[Lease]:
    """A lease for the duration of the block, in the main thread: where another driver takes
    over, what runs there is interrupted. Raises LeaseError, then and where the folder is held."""
    taken = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def lose() -> None:
        taken.set()
        signal.pthread_kill(main, TAKEN)

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # A signal of its own: what a shell starts in the background ignores SIGINT.
    before = signal.signal(TAKEN, interrupt)
    try:
        lease = Lease(folder, ttl, lose)
        try:
            yield lease
        except KeyboardInterrupt as interrupted:
            if taken.is_set():
                raise LeaseError(f"{folder.uri} was taken over by another driver") from interrupted
            raise
        finally:
            lease.release()
    finally:
        signal.signal(TAKEN, before)


def holder(folder: Folder) -> str | None:
    """Who holds the folder, as far as one look can tell; None where it is free."""
    newest = _newest(folder)
    if newest is None or newest.content["released"]:
        return None
    dead = _here(newest.content) and not _alive(newest.content)
    return None if dead else _describe(newest.content)


def _challenge(folder: Folder, ttl: float) -> int:
    """The number of the next claim. Raises LeaseError where the present holder lives."""
    newest = _newest(folder)
    if newest is None:
        return 1
    free = newest.content["released"]
    if not free and _here(newest.content):
        if _alive(newest.content):
            raise LeaseError(f"{folder.uri} is held by {_describe(newest.content)}")
        free = True
    deadline = time.monotonic() + max(ttl, float(newest.content["ttl"]))
    while not free and time.monotonic() < deadline:
        time.sleep(min(1.0, ttl / 10))
        now = _newest(folder)
        if now != newest:
            if now is None or now.content["released"]:
                return _challenge(folder, ttl)
            raise LeaseError(f"{folder.uri} is held by {_describe(now.content)}")
    return newest.number + 1


def _claim(folder: Folder, number: int, content: bytes) -> str:
    if folder.local:
        name = f"{LEASE}/{number:08d}.json"
        if not folder.create(name, content):
            raise LeaseError(f"{folder.uri} was just taken by {holder(folder)}")
        return name
    # Most object stores cannot create exclusively, but they list consistently: of two who
    # write a claim and then look, at least one sees the other, and gives way.
    name = f"{LEASE}/{number:08d}-{uuid.uuid4().hex}.json"
    folder.write(name, content)
    if [n for n, found in _claims(folder) if found >= number] != [name]:
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
        except FileNotFoundError:  # the next holder has deleted it
            continue
    return None


def _claims(folder: Folder) -> list[tuple[str, int]]:
    names = (found.name for found in folder.files(LEASE))
    return [(n, int(Path(n).name[:8])) for n in names if n.endswith(".json")]


def _holder() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
    }


def _machine() -> str:
    """Names the running kernel and process namespace: only there do process ids compare."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    if boot.exists() and namespace.exists():
        return f"{boot.read_text().strip()}/{namespace.stat().st_ino}"
    return f"{socket.gethostname()}/{uuid.getnode():x}"


def _started(pid: int) -> str | None:
    """When a process started, so that a reused process id is not taken for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _here(held: dict[str, Any]) -> bool:
    return bool(held["machine"] == _machine())


def _alive(held: dict[str, Any]) -> bool:
    try:
        os.kill(held["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return bool(_started(held["pid"]) == held["started"])


def _describe(held: dict[str, Any]) -> str:
    return f"process {held['pid']} on {held['host']}"
