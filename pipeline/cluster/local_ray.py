"""A local Ray for one run: it listens on loopback alone, leaves no files behind, and a signal to
the process group of the command does not reach it.

Ray 2.60 has no setting for the first and the last. Two of its module-level names are replaced while
it starts; pyproject.toml fixes its minor version, and `tests/pipeline/cluster/test_local_ray.py`
tells whether another one still fits.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, services

LOOPBACK = "127.0.0.1"
PREFIX, LOCK = "nabla-ray-", "lock"
# The sockets of Ray are at most 64 bytes below its folder, and Linux allows paths of 107 bytes.
MAX_FOLDER = 43
# How long processes that were ended may still write into the folder.
REMOVE_SECONDS = 5.0
LOG = logging.getLogger(__name__)


class LocalRay:
    """A Ray of this process, from the constructor on until `stop`."""

    def __init__(self, cpus: int, niceness: int = 0) -> None:
        base = _base()
        _remove_abandoned(base)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        self._lock = _locked(self.folder)
        try:
            with _on_loopback(), _in_process_groups_of_their_own():
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=False,
                    object_store_memory=256 << 20,
                    logging_level="error",
                    # Without a dashboard Ray's helpers log a failed connection every second.
                    log_to_driver=False,
                    _node_ip_address=LOOPBACK,
                    _system_config={"worker_niceness": niceness},
                    _temp_dir=str(self.folder),
                )
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End Ray's processes and delete its files."""
        try:
            ray.shutdown()
        finally:
            _remove(self.folder)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None


@contextmanager
def _on_loopback() -> Iterator[None]:
    # Ray replaces a loopback address by one that other machines can reach, unless it is told that
    # there are no other machines.
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _in_process_groups_of_their_own() -> Iterator[None]:
    # SIGTERM to the group of the command (a batch system, `make`, a terminal that is closed) would
    # end the workers before they commit the rows that wait.
    popen = services.ConsolePopen
    if not ray._private.utils.detect_fate_sharing_support():
        yield  # Ray ends its processes by their group, where the kernel does not
        return

    class Popen(popen):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{"process_group": 0, **options})

    services.ConsolePopen = Popen
    try:
        yield
    finally:
        services.ConsolePopen = popen


def _base() -> str:
    """Where Ray's folder is made: RAY_TMPDIR or the folder for temporary files, if its path is
    short enough, else /tmp."""
    base = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    name = f"/{PREFIX}12345678"
    return base if len(os.fsencode(base)) + len(name) <= MAX_FOLDER else "/tmp"


def _locked(folder: Path) -> int | None:
    """Lock a folder for the life of this process; None where another process has it."""
    handle = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove_abandoned(base: str) -> None:
    """Delete the folders of commands that were killed."""
    for folder in Path(base).glob(f"{PREFIX}*"):
        # Another user's, or being made or deleted just now by another command.
        with suppress(OSError):
            if not (folder / LOCK).exists():
                continue
            handle = _locked(folder)
            if handle is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(handle)


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + REMOVE_SECONDS
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            LOG.warning("%s could not be deleted", folder)
            return
        time.sleep(0.05)
