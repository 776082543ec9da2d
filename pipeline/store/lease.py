"""The lease of a run folder: at most one driver writes to it at a time.

The lease is a numbered file; the driver that creates the next number holds the folder. The holder
rewrites its file every `ttl` / 4 seconds. A second driver that finds the file decides whether its
holder is alive:

    same machine       by the process id, at once
    another machine    by watching the file for `ttl` seconds: a change means alive

It compares the file with itself and not a time in it with its own clock, since the clocks of two
machines may differ by more than `ttl`.

A number is never used twice: the file with the highest number is never deleted, and a driver whose
file is not the highest gives way. A file that holds no claim (damaged, say) counts as that of a
silent holder on another machine.

The holder of number N changes the folder through the stage `staging/N` (see `store.files`). It
makes the stage after it has taken away those of its predecessors, and then checks again that N is
the highest number. A predecessor that makes its stage later fails at this check. So none has a
stage from then on, and without a stage its changes fail.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.errors import LeaseError
from pipeline.store.failpoints import failpoint
from pipeline.store.files import LEASE, TEMPORARY, Folder

STAGING = "staging"
# A claim that ends in `released` was released on a full disk, on which it could not be rewritten.
_NAME = re.compile(r"(\d{8,})(-[^.]+)?\.(json|released)")
# Not SIGINT: a process that a shell started in the background ignores it.
LEASE_LOST = signal.SIGUSR2
LOG = logging.getLogger(__name__)


class Lease:
    """Holds a run folder until `release`, or until the process dies.

    `folder` is the run folder as the holder must change it, `number` that of the claim. A thread
    calls `on_lost` if another driver took the folder over. That happens only if this process did
    not run for more than `ttl` seconds (suspended, or cut off from the store). Raises LeaseError if
    the folder is held.
    """

    def __init__(self, folder: Folder, ttl: float, on_lost: Callable[[], None]) -> None:
        self._ttl = ttl
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._heartbeat = 0
        self.number = _next_number(folder, ttl)
        failpoint("before-claim")
        self._name = _claim(folder, self.number, self._content())
        failpoint("after-claim")
        self.folder = _open_stage(folder, self.number)
        failpoint("after-stage")
        self._unstaged = folder
        if not self.is_held():
            self._clean_up()
            raise self._taken_over()
        # Claims of former holders. Deleted only now: the numbers must grow, or a driver that was
        # suspended could take this claim for its own.
        for name, number in _claims(folder):
            if number < self.number:
                self.folder.delete(name)
        self._thread = threading.Thread(target=self._renew_until_stopped, name="lease", daemon=True)
        self._thread.start()

    def is_held(self) -> bool:
        """Whether this claim is the newest: no other driver took over."""
        claims = _claims(self._unstaged)
        return bool(claims) and claims[-1][1] == self.number

    def check(self) -> None:
        """Raises LeaseError if another driver took over."""
        if not self.is_held():
            raise self._taken_over()

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Raises LeaseError at the end of the block if another driver took over, also in place of
        an error of the block: it may be a consequence."""
        try:
            yield
        except LeaseError:
            raise
        except Exception as error:
            try:
                self.check()
            except LeaseError as lost:
                raise lost from error
            except OSError:  # the folder cannot be read, which is the error then
                raise error from None
            raise
        self.check()

    def release(self) -> None:
        """Stop renewing, and let the next driver take the folder at once."""
        self._stop.set()
        self._thread.join()
        with suppress(LeaseError):
            if self.is_held():
                self._write_release()
        self._clean_up()

    def _write_release(self) -> None:
        try:
            self.folder.write(self._name, self._content(released=True))
        except OSError as error:
            # On a full disk a file can be renamed but not written. It cannot be deleted: the next
            # claim would have its number.
            LOG.warning("%s: the lease is renamed, not released: %s", self.folder.uri, error)
            self.folder.move(self._name, self._name.replace(".json", ".released"))

    def _clean_up(self) -> None:
        """Delete the stage, and the claim if there is a newer one."""
        if not self.is_held():
            self._unstaged.delete(self._name)
        if self.folder.local:
            shutil.rmtree(self.folder.path(self.folder.stage), ignore_errors=True)
            with suppress(OSError):  # there may be the stage of another driver
                os.rmdir(self.folder.path(STAGING))

    def _renew_until_stopped(self) -> None:
        while not self._stop.wait(self._ttl / 4):
            try:
                self.check()
                self._heartbeat += 1
                self.folder.write(self._name, self._content())
            except LeaseError:
                self._on_lost()
                return
            except Exception as error:  # noqa: BLE001 - the thread must not end unnoticed
                # Not fatal here: rows cannot be committed either, and that ends the run.
                LOG.warning("%s: the lease was not renewed: %s", self.folder.uri, error)

    def _content(self, released: bool = False) -> bytes:
        claim = replace(_this_process(self._ttl), heartbeat=self._heartbeat, released=released)
        return json.dumps(asdict(claim)).encode()

    def _taken_over(self) -> LeaseError:
        return LeaseError(f"{self._unstaged.uri} was taken over by another driver")


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
            with lease.guarding():
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
    held = newest.held if newest else None
    if held is None or held.released or (_same_machine(held) and not _alive(held)):
        return None
    return _describe(held)


def _open_stage(folder: Folder, number: int) -> Folder:
    """Take away all stages and make the one of this number."""
    if not folder.local:
        return folder
    staging, stage = folder.path(STAGING), f"{STAGING}/{number:08d}"
    for old in os.listdir(staging) if os.path.isdir(staging) else []:
        # Renamed first, at once with all files in it: from then on its owner can change nothing.
        gone = os.path.join(staging, f"{TEMPORARY}{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):
            os.replace(os.path.join(staging, old), gone)
            shutil.rmtree(gone, ignore_errors=True)
    os.makedirs(folder.path(stage))
    return folder.through(stage)


def _next_number(folder: Folder, ttl: float) -> int:
    """The number of the next claim. Raises LeaseError if the present holder is alive."""
    newest = _newest(folder)
    if newest is None:
        return 1
    held = newest.held
    free = held is not None and held.released
    if held is not None and not free and _same_machine(held):
        if _alive(held):
            raise LeaseError(f"{folder.uri} is held by {_describe(held)}")
        free = True
    # The holder renews by its own ttl, which may be the longer one.
    deadline = time.monotonic() + max(ttl, held.ttl if held is not None else 0.0)
    while not free and time.monotonic() < deadline:
        time.sleep(min(1.0, ttl / 10))
        now = _newest(folder)
        if now != newest:
            if now is None or now.held is None or now.held.released:
                return _next_number(folder, ttl)
            raise LeaseError(f"{folder.uri} is held by {_describe(now.held)}")
    return newest.number + 1


def _claim(folder: Folder, number: int, content: bytes) -> str:
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
    if [n for n, found in _claims(folder) if found >= number] != [name]:
        folder.delete(name)
        raise LeaseError(f"{folder.uri} is being taken by another driver; try again")
    return name


@dataclass(frozen=True, kw_only=True)
class _Held:
    """The holder that a claim names. `started`: a later process may have the same id."""

    host: str
    machine: str
    pid: int
    started: str | None
    ttl: float
    heartbeat: int = 0
    released: bool = False


@dataclass(frozen=True)
class _Claim:
    """A claim's file. `held` is None where its content is no claim."""

    name: str
    number: int
    content: bytes
    held: _Held | None


def _newest(folder: Folder) -> _Claim | None:
    while claims := _claims(folder):
        name, number = claims[-1]
        try:
            content = folder.read(name)
        except FileNotFoundError:  # deleted by the next holder since it was listed
            continue
        held = _parse(content)
        if held is not None and name.endswith(".released"):
            held = replace(held, released=True)
        return _Claim(name, number, content, held)
    return None


def _parse(content: bytes) -> _Held | None:
    try:
        held = _Held(**json.loads(content))
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


def _claims(folder: Folder) -> list[tuple[str, int]]:
    """Names and numbers of all claims, the newest last. Other files in the folder are ignored."""
    found = ((file.name, _NAME.fullmatch(Path(file.name).name)) for file in folder.files(LEASE))
    claims = ((name, int(match[1])) for name, match in found if match)
    return sorted(claims, key=lambda claim: (claim[1], claim[0]))


def _this_process(ttl: float) -> _Held:
    pid = os.getpid()
    return _Held(
        host=socket.gethostname(), machine=_machine(), pid=pid, started=_started(pid), ttl=ttl
    )


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


def _same_machine(held: _Held) -> bool:
    return held.machine == _machine()


def _alive(held: _Held) -> bool:
    try:
        os.kill(held.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, and another user's
        return True
    return _started(held.pid) == held.started


def _describe(held: _Held) -> str:
    return f"process {held.pid} on {held.host}"
