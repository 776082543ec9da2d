"""The threads of a worker: one drives the scheduler, one writes rows, one watches the first.

The writer commits all rows that wait, as one group, as soon as `flush_rows` wait, one has waited
`flush_seconds`, or no prompt is in flight any more.

No thread ends unnoticed. Without the engine thread or the watchdog the process is useless and ends.
Without the writer every prompt would be lost in the next process too, so all futures fail and the
run ends.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from nabla_core.scheduler import Scheduler
from pipeline.errors import RunError
from pipeline.inputs.prompts import Item
from pipeline.run.recipe import Maker
from pipeline.store.files import retrying
from pipeline.store.run_store import RunStore
from pipeline.tables.traces import key_columns


@dataclass
class Job:
    """A prompt in the pump. `future` gets its row once the row is durable. `result` is what the
    scheduler returned, an exception, or the reason why the prompt is given up."""

    item: Item
    attempt: int
    future: Future[dict[str, Any]] = field(default_factory=Future)
    result: Any = None


class Pump:
    """Turns prompts into committed rows.

    The scheduler has at most `in_flight` prompts. `fatal(reason)` is called, from any thread,
    when the engines can serve no further request, when the engine thread has made no step for
    `hang_seconds`, or when a thread has failed that the process needs. It must not return.
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
        self._finished: queue.SimpleQueue[Job | Future[None]] = queue.SimpleQueue()
        self._pending: set[Future[Any]] = set()
        # Why the writer thread ended. `_entering` orders its end and the arrival of futures.
        self._failure: RunError | None = None
        self._entering = threading.Lock()
        # Prompts that no result has come back from; the caller's thread counts up, the engine
        # thread down.
        self._unfinished = 0
        self._counting = threading.Lock()
        self._busy_since: float | None = None
        self._engine_thread = self._start("engine", self._drive)
        self._start("watchdog", self._watch)
        threading.Thread(target=self._write, name="writer", daemon=True).start()

    def submit(self, item: Item, attempt: int) -> Future[dict[str, Any]]:
        """Work on a prompt. The future raises only where the row cannot be committed; an error of
        the prompt itself is in its row."""
        job = self._new_job(item, attempt)
        with self._counting:
            self._unfinished += 1
        self._new.put(job)
        return job.future

    def give_up(self, item: Item, attempt: int, reason: str) -> Future[dict[str, Any]]:
        """Commit a dead letter with this reason, without working on the prompt."""
        job = self._new_job(item, attempt)
        job.result = reason
        self._finished.put(job)
        return job.future

    def flush(self) -> Future[None]:
        """Commit all rows that wait now; the future ends when that is done."""
        flushed: Future[None] = Future()
        self._enter(flushed)
        self._finished.put(flushed)
        return flushed

    def abandon(self) -> None:
        """Cancel the futures of all prompts without a committed row. A row whose commit has begun
        may still become durable."""
        for future in list(self._pending):
            future.cancel()

    def engine_stack(self) -> list[str]:
        """The stack of the engine thread, as traceback lines."""
        frame = sys._current_frames().get(self._engine_thread.ident or 0)
        return traceback.format_stack(frame) if frame is not None else []

    def _start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """A thread whose failure ends the process."""

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self._fatal(f"the {name} thread failed: {_described(error)}")
                raise

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def _drive(self) -> None:
        # The scheduler returns the error of a prompt as its result. What it raises is an error of
        # the scheduler or of an engine, and no later prompt could be served.
        scheduler = Scheduler(self._maker.engines)
        while True:
            while scheduler.in_flight < self._in_flight:
                try:
                    job = self._new.get(block=scheduler.in_flight == 0)
                except queue.Empty:
                    break
                self._busy_since = time.monotonic()
                scheduler.submit(self._maker.flow(job.item.prompt), self._done(job))
            # Each step restarts the clock of `_watch`: a long response is no hang.
            self._busy_since = time.monotonic()
            if scheduler.in_flight:
                scheduler.step()
            self._busy_since = None

    def _new_job(self, item: Item, attempt: int) -> Job:
        job = Job(item, attempt)
        self._enter(job.future)
        return job

    def _enter(self, future: Future[Any]) -> None:
        """Let the future fail with the writer thread, or at once if that has failed."""
        with self._entering:
            self._pending.add(future)
            failure = self._failure
        future.add_done_callback(self._pending.discard)
        if failure is not None:
            _fail(future, failure)

    def _done(self, job: Job) -> Callable[[Any], None]:
        def finish(result: Any) -> None:
            if isinstance(result, Exception) and kills_engine(result):
                self._fatal(f"the engine is dead: {type(result).__name__}: {result}")
            job.result = result
            with self._counting:
                self._unfinished -= 1
            self._finished.put(job)

        return finish

    def _write(self) -> None:
        try:
            self._commit_in_groups()
        except BaseException as error:
            # Another process would fail alike: the cause is a setting or the store, and no prompt.
            with self._entering:
                self._failure = RunError(f"the writer thread failed: {_described(error)}")
                pending = list(self._pending)
            for future in pending:
                _fail(future, self._failure)
            raise

    def _commit_in_groups(self) -> None:
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
            if waiting and (flushes or enough or self._unfinished == 0):
                self._commit(waiting)
                waiting = []
            for flushed in flushes:
                if flushed.set_running_or_notify_cancel():
                    flushed.set_result(None)

    def _arrivals(self, seconds: float | None) -> list[Job | Future[None]]:
        """What arrives within so many seconds (None: without limit), with all that is queued
        behind it."""
        arrived: list[Job | Future[None]] = []
        try:
            arrived.append(self._finished.get(timeout=seconds))
            while True:
                arrived.append(self._finished.get_nowait())
        except queue.Empty:
            return arrived

    def _commit(self, jobs: list[Job]) -> None:
        rows = [self._row(job) for job in jobs]
        # A future is set only after the commit: who reads it may rely on a durable row.
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
            error = error if isinstance(error, str) else _described(error)
        return {**columns, **key_columns(job.item, self._worker, job.attempt, error)}

    def _watch(self) -> None:
        while True:
            time.sleep(min(self._hang_seconds / 10, 1.0))
            since = self._busy_since
            if since is not None and time.monotonic() - since > self._hang_seconds:
                self._fatal(f"no progress for {self._hang_seconds:g} s")


def _fail(future: Future[Any], error: Exception) -> None:
    # The future may have ended meanwhile, with its row or because it was cancelled.
    with suppress(InvalidStateError):
        future.set_exception(error)


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def kills_engine(error: Exception) -> bool:
    """Whether every later request would fail too: after an AcceleratorError (an illegal memory
    access, say) the process has no usable CUDA context any more."""
    # By name: workers of a run with scripted models do not import torch.
    return any(base.__name__ == "AcceleratorError" for base in type(error).__mro__)
