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
import os
import shutil
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace

from pipeline.errors import LeaseError
from pipeline.store.claims import create_claim, list_claims, next_number, this_process
from pipeline.store.failpoints import failpoint
from pipeline.store.files import TEMPORARY, Folder

STAGING = "staging"
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
        self.number = next_number(folder, ttl)
        failpoint("before-claim")
        self._name = create_claim(folder, self.number, self._content())
        failpoint("after-claim")
        self.folder = _open_stage(folder, self.number)
        failpoint("after-stage")
        self._unstaged = folder
        if not self.is_held():
            self._clean_up()
            raise self._taken_over()
        # Claims of former holders. Deleted only now: the numbers must grow, or a driver that was
        # suspended could take this claim for its own.
        for name, number in list_claims(folder):
            if number < self.number:
                self.folder.delete(name)
        self._thread = threading.Thread(target=self._renew_until_stopped, name="lease", daemon=True)
        self._thread.start()

    def is_held(self) -> bool:
        """Whether this claim is the newest: no other driver took over."""
        claims = list_claims(self._unstaged)
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
        claim = replace(this_process(self._ttl), heartbeat=self._heartbeat, released=released)
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
