"""The actor of the pool: models, a pump, and the ledger's word on every prompt."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import pickle
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from nabla_core.errors import ModelError
from pipeline.inputs.prompts import Item
from pipeline.run.cluster import Cluster
from pipeline.run.ledger import Decision, Key, Place
from pipeline.run.pump import Pump
from pipeline.run.recipe import Recipe
from pipeline.store.run_store import RunStore

LOAD_TRIES = 3


@dataclass(frozen=True)
class Assignment:
    """What every worker of a pool is given. `apart`: tasks are groups of suspects."""

    recipe: Recipe
    store: RunStore
    cluster: Cluster
    apart: bool


class Worker:
    """Takes prompts, commits their rows, returns only how each of them fared.

    A status is (prompt_id, sample, state, detail), state one of done, dead, later, again (done
    before, the news was lost), stop, load_failed, commit_failed; detail is JSON numbers of a
    done row, else a reason.
    """

    def __init__(self, assignment: Assignment, ledger: Any) -> None:
        node: str = ray.get_runtime_context().get_node_id()
        self._place = Place(f"{node[:8]}-{os.getpid()}-{uuid.uuid4().hex[:6]}", node)
        self._ledger = ledger
        self._apart = assignment.apart
        self._broken: str | None = None
        cluster = assignment.cluster
        # Prompts of further tasks wait here and not in the pump: no death is blamed on them.
        window = cluster.in_flight + assignment.store.settings.flush_rows - 1
        self._window = asyncio.Semaphore(window)
        faulthandler.dump_traceback_later(cluster.load_seconds, exit=True, file=sys.stderr)
        try:
            self._maker = self._open(assignment.recipe)
        except ModelError as error:
            self._broken = str(error)
            return
        finally:
            faulthandler.cancel_dump_traceback_later()
        self._pump = Pump(
            self._maker,
            assignment.store,
            worker=self._place.worker,
            in_flight=cluster.in_flight,
            hang_seconds=cluster.hang_seconds,
            fatal=self._die,
        )
        threading.Thread(target=self._flush_when_stopped, daemon=True).start()

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """`batch` holds pickled items; the statuses come back in its order."""
        items: list[Item] = [pickle.loads(value.as_py()) for value in batch["item"]]
        group = len(items) if self._apart else 0
        statuses = await asyncio.gather(*(self._one(item, group) for item in items))
        columns = ("prompt_id", "sample", "state", "detail")
        return pa.table(dict(zip(columns, map(list, zip(*statuses, strict=True)), strict=True)))

    async def _one(self, item: Item, group: int) -> tuple[str, int, str, str]:
        key: Key = (item.prompt.id, item.prompt.sample)
        if self._broken is not None:
            return (*key, "load_failed", self._broken)
        async with self._window:
            return (*key, *await self._work(item, key, group))

    async def _work(self, item: Item, key: Key, group: int) -> tuple[str, str]:
        decision: Decision = await self._ledger.begin.remote(key, self._place, group)
        if decision.action in ("later", "again", "stop"):
            return ("dead", decision.reason) if decision.reason else (decision.action, "")
        if decision.action == "give_up":
            future = self._pump.give_up(item, decision.attempt, decision.reason or "")
        else:
            future = self._pump.submit(item, decision.attempt)
        try:
            row = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            return "stop", ""
        except Exception as error:  # noqa: BLE001 - the driver ends the run with it
            return "commit_failed", f"{type(error).__name__}: {error}"
        self._ledger.end.remote(key, row["error"])
        if row["error"] is not None:
            return "dead", row["error"]
        return "done", json.dumps(self._maker.numbers(row))

    def _open(self, recipe: Recipe) -> Any:
        """Load the models; patiently where other workers could (a GPU not yet free, say)."""
        for attempt in range(LOAD_TRIES):
            try:
                maker = recipe.open()
            except Exception as error:
                ever = ray.get(self._ledger.ever_loaded.remote())
                if attempt == LOAD_TRIES - 1 or not ever:
                    if isinstance(error, ModelError):
                        raise
                    raise ModelError(f"{type(error).__name__}: {error}") from error
                time.sleep(5 * 2**attempt)
            else:
                ray.get(self._ledger.loaded.remote(self._place.worker))
                return maker
        raise AssertionError("the loop returns or raises")

    def _flush_when_stopped(self) -> None:
        while not ray.get(self._ledger.stopped.remote()):
            time.sleep(0.5)
        self._pump.flush().result()
        self._pump.abandon()
        self._ledger.flushed.remote(self._place.worker)

    def _die(self, reason: str) -> None:
        """End this process: Ray starts another, and the ledger knows why."""
        sys.stderr.write(f"worker {self._place.worker} ends itself: {reason}\n")
        sys.stderr.writelines(self._pump.where())
        try:
            ray.get(self._ledger.blame.remote(self._place.worker, reason), timeout=5)
        finally:
            os._exit(1)
