"""The driver shows progress and measurements while workers write them into the run folder."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.store.files import MALFORMED, Folder
from pipeline.training.folder import PROGRESS
from pipeline.training.history import read_history

OnMeasurement = Callable[[Mapping[str, Any]], None]
LOCAL_SECONDS, REMOTE_SECONDS = 1.0, 10.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training is. `seconds`: of a step, on average since the last start."""

    step: int
    steps: int
    seconds: float

    @property
    def seconds_left(self) -> float:
        """How long the other steps take at this speed."""
        return (self.steps - self.step) * self.seconds


OnProgress = Callable[[Progress], None]


class ProgressFile:
    """Writes how far the work of this process is, at most every `LOCAL_SECONDS` (on an object
    store `REMOTE_SECONDS`); `step` of `steps` are taken already."""

    def __init__(self, folder: Folder, step: int, steps: int) -> None:
        self._folder, self._first, self._steps = folder, step, steps
        self._began = self._written = time.monotonic()

    def took(self, step: int) -> None:
        """So many steps are taken now."""
        now = time.monotonic()
        pause = LOCAL_SECONDS if self._folder.local else REMOTE_SECONDS
        if step < self._steps and now - self._written < pause:
            return
        self._written = now
        seconds = (now - self._began) / (step - self._first)
        write_progress(self._folder, Progress(step=step, steps=self._steps, seconds=seconds))

    def skipped(self) -> None:
        """One more step was taken by an earlier process; it tells nothing of the speed."""
        self._first += 1


def write_progress(folder: Folder, progress: Progress) -> None:
    """Store how far the training is; one worker does."""
    folder.write(PROGRESS, json.dumps(asdict(progress)).encode())


def read_progress(folder: Folder) -> Progress | None:
    """How far the training is; None where no step was taken or the file is damaged."""
    if not folder.exists(PROGRESS):
        return None
    try:
        return Progress(**json.loads(folder.read(PROGRESS)))
    except MALFORMED:
        return None


@contextmanager
def followed(
    folder: Folder, on_measurement: OnMeasurement, on_progress: OnProgress | None = None
) -> Iterator[None]:
    """Call `on_measurement` with each measurement that is added to the history in the block, and
    `on_progress` where the training has gone on.

    The calls come from a thread, the last ones from the caller's. After a crash steps are
    measured again; `on_measurement` is called for new steps only. Where the block raises,
    measurements that were not read yet are not passed on.
    """
    last_step = max((m["step"] for m in _measurements(folder)), default=0)
    shown = read_progress(folder)  # of an earlier attempt
    done = threading.Event()

    def report_new() -> None:
        nonlocal last_step, shown
        progress = read_progress(folder) if on_progress else None
        if on_progress and progress and progress != shown:
            shown = progress
            on_progress(progress)
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
