"""The driver shows measurements while workers write them into the run folder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from pipeline.store.files import Folder
from pipeline.training.history import read_history

OnMeasurement = Callable[[Mapping[str, Any]], None]
LOCAL_SECONDS, REMOTE_SECONDS = 1.0, 10.0


@contextmanager
def followed(folder: Folder, on_measurement: OnMeasurement) -> Iterator[None]:
    """Call `on_measurement` with each measurement that is added to the history in the block.

    The calls come from a thread, the last ones from the caller's. After a crash steps are
    measured again; `on_measurement` is called for new steps only. Where the block raises,
    measurements that were not read yet are not passed on.
    """
    last_step = max((m["step"] for m in _measurements(folder)), default=0)
    done = threading.Event()

    def report_new() -> None:
        nonlocal last_step
        for measurement in _measurements(folder):
            if measurement["step"] > last_step:
                last_step = measurement["step"]
                on_measurement(measurement)

    def poll() -> None:
        while not done.wait(LOCAL_SECONDS if folder.local else REMOTE_SECONDS):
            # No failure may end the thread: the next read, or the last one after the block, gets
            # the same measurements. The last one raises what does not pass.
            with suppress(Exception):
                report_new()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    report_new()


def _measurements(folder: Folder) -> list[dict[str, Any]]:
    history = read_history(folder)
    return [] if history is None else history["measurements"]
