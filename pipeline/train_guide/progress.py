"""Measurements of a guide in training, told by the driver while workers write them down."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from pipeline.errors import StoreError
from pipeline.store.files import Folder
from pipeline.train_guide.folder import HISTORY

Tell = Callable[[Mapping[str, Any]], None]
LOCAL_SECONDS, REMOTE_SECONDS = 1.0, 10.0


@contextmanager
def followed(folder: Folder, tell: Tell) -> Iterator[None]:
    """Calls `tell` with the measurements that come into the history during the block, from a
    thread. After a crash steps are measured again, and not told twice; what came in just before
    the block was left by an error is not told."""
    told = max((m["step"] for m in _measured(folder)), default=0)
    done = threading.Event()

    def follow() -> None:
        nonlocal told
        for measurement in _measured(folder):
            if measurement["step"] > told:
                told = measurement["step"]
                tell(measurement)

    def watch() -> None:
        while not done.wait(LOCAL_SECONDS if folder.local else REMOTE_SECONDS):
            with suppress(OSError, StoreError):  # the next look may succeed, and the last must
                follow()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    follow()


def _measured(folder: Folder) -> list[dict[str, Any]]:
    if not folder.exists(HISTORY):
        return []
    measured: list[dict[str, Any]] = json.loads(folder.read(HISTORY))["measured"]
    return measured
