"""The inside of a worker: one thread drives the scheduler, one commits.

Rows are committed in groups: whatever waits when the writer is free, once enough rows wait,
one has waited long enough, or nothing else is in flight.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from nabla_core.scheduler import Scheduler
from pipeline.inputs.prompts import Item
from pipeline.run.recipe import Maker
from pipeline.store.files import retrying
from pipeline.store.run_store import RunStore
from pipeline.tables.traces import key_columns


@dataclass
class Job:
    """One prompt in the pump; `future` gets its row once that is durable."""

    item: Item
    attempt: int
    future: Future[dict[str, Any]] = field(default_factory=Future)
    result: Any = None


class Pump:
    """Turns prompts into committed rows.

    `in_flight` prompts at most are with the scheduler. `fatal(reason)` is called, from any
    thread, where the engines are dead or the engine thread has not moved for
    `hang_seconds`; it must not return.
    """

    def __init__(
        self,
        maker: Maker,
        store: RunStore,
        *,
        worker: str,
        in_flight: int,
        hang_seconds: float,
        fatal: Callable[[str], None],
    ) -> None:
        self._maker, self._store = maker, store
        self._worker, self._in_flight, self._fatal = worker, in_flight, fatal
        self._hang_seconds = hang_seconds
        self._new: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._made: queue.SimpleQueue[Job | Future[None]] = queue.SimpleQueue()
        self._open: set[Future[dict[str, Any]]] = set()
        self._unmade = 0
        self._count = threading.Lock()
        self._busy_since: float | None = None
        self._engine_thread = threading.Thread(target=self._drive, daemon=True)
        self._engine_thread.start()
        for work in (self._write, self._watch):
            threading.Thread(target=work, daemon=True).start()

    def submit(self, item: Item, attempt: int) -> Future[dict[str, Any]]:
        """Work on a prompt. The future's exception, if any, is that of the commit."""
        job = self._job(item, attempt)
        with self._count:
            self._unmade += 1
        self._new.put(job)
        return job.future

    def give_up(self, item: Item, attempt: int, reason: str) -> Future[dict[str, Any]]:
        """Commit a dead letter without working on the prompt."""
        job = self._job(item, attempt)
        job.result = reason
        self._made.put(job)
        return job.future

    def flush(self) -> Future[None]:
        """Commit what waits, now; the future ends when that is done."""
        flushed: Future[None] = Future()
        self._made.put(flushed)
        return flushed

    def abandon(self) -> None:
        """Cancel the futures of all prompts that are not committed; they may still be."""
        for future in list(self._open):
            future.cancel()

    def where(self) -> list[str]:
        """The stack of the engine thread, as traceback lines."""
        frame = sys._current_frames().get(self._engine_thread.ident or 0)
        return traceback.format_stack(frame) if frame is not None else []

    def _drive(self) -> None:
        scheduler = Scheduler(self._maker.engines)
        try:
            while True:
                while scheduler.in_flight < self._in_flight:
                    try:
                        job = self._new.get(block=scheduler.in_flight == 0)
                    except queue.Empty:
                        break
                    self._busy_since = time.monotonic()
                    scheduler.submit(self._maker.flow(job.item.prompt), self._done(job))
                self._busy_since = time.monotonic()
                if scheduler.in_flight:
                    scheduler.step()
                self._busy_since = None
        except BaseException as error:
            self._fatal(f"the engine thread failed: {type(error).__name__}: {error}")
            raise

    def _job(self, item: Item, attempt: int) -> Job:
        job = Job(item, attempt)
        self._open.add(job.future)
        job.future.add_done_callback(self._open.discard)
        return job

    def _done(self, job: Job) -> Callable[[Any], None]:
        def finish(result: Any) -> None:
            if isinstance(result, Exception) and kills_engine(result):
                self._fatal(f"the engine is dead: {type(result).__name__}: {result}")
            job.result = result
            with self._count:
                self._unmade -= 1
            self._made.put(job)

        return finish

    def _write(self) -> None:
        settings = self._store.settings
        waiting: list[Job] = []
        deadline = 0.0
        while True:
            left = max(0.0, deadline - time.monotonic()) if waiting else None
            arrived = self._arrivals(left)
            flushes = [entry for entry in arrived if isinstance(entry, Future)]
            if arrived and not waiting:
                deadline = time.monotonic() + settings.flush_seconds
            waiting += [entry for entry in arrived if isinstance(entry, Job)]
            enough = len(waiting) >= settings.flush_rows or time.monotonic() >= deadline
            if waiting and (flushes or enough or self._unmade == 0):
                self._commit(waiting)
                waiting = []
            for flushed in flushes:
                flushed.set_result(None)

    def _arrivals(self, seconds: float | None) -> list[Job | Future[None]]:
        """What arrives within so many seconds, and all behind it."""
        arrived: list[Job | Future[None]] = []
        try:
            arrived.append(self._made.get(timeout=seconds))
            while True:
                arrived.append(self._made.get_nowait())
        except queue.Empty:
            return arrived

    def _commit(self, jobs: list[Job]) -> None:
        rows = [self._row(job) for job in jobs]
        try:
            retrying(lambda: self._store.commit(rows))
        except Exception as error:  # noqa: BLE001 - the driver ends the run with it
            for job in jobs:
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(error)
        else:
            for job, row in zip(jobs, rows, strict=True):
                if job.future.set_running_or_notify_cancel():
                    job.future.set_result(row)

    def _row(self, job: Job) -> dict[str, Any]:
        prompt, error = job.item.prompt, job.result
        columns: Mapping[str, Any]
        if not isinstance(job.result, Exception | str):
            try:
                columns, error = self._maker.row(prompt, job.result), None
            except Exception as failure:  # noqa: BLE001 - becomes the row's error
                error = failure
        if error is not None:
            columns = self._maker.dead(prompt)
            error = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        return {**columns, **key_columns(job.item, self._worker, job.attempt, error)}

    def _watch(self) -> None:
        while True:
            time.sleep(min(self._hang_seconds / 10, 1.0))
            since = self._busy_since
            if since is not None and time.monotonic() - since > self._hang_seconds:
                self._fatal(f"no progress for {self._hang_seconds:g} s")


def kills_engine(error: Exception) -> bool:
    """Whether every later request would fail as well: the accelerator's context is gone."""
    return any(base.__name__ == "AcceleratorError" for base in type(error).__mro__)
