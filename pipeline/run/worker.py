"""The actor of the pool: it loads the models and turns prompts into committed rows."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import os
import pickle
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray

from nabla_core.errors import ModelError
from nabla_core.types import Identity
from pipeline.cluster.config import Cluster
from pipeline.cluster.working_dir import enter_working_dir
from pipeline.errors import StoreError
from pipeline.inputs.prompt_forms import Form
from pipeline.inputs.prompts import Item
from pipeline.printable import visible
from pipeline.references import shown_uri
from pipeline.run.ledger import Action, Decision, Process
from pipeline.run.prompt_status import PromptState, PromptStatus, to_table
from pipeline.run.pump import Pump
from pipeline.run.recipe import Maker, Recipe
from pipeline.store.checks.models_check import read_models, require_same, write_models
from pipeline.store.run_store import RunStore

LOAD_TRIES = 3
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assignment:
    """What every worker of a pool gets. `isolated`: each task is one group of suspects.
    `forms` are those of many prompts: models whose chat templates refuse them cannot be used.
    `ledger` is the name of the ledger's actor.

    Relative paths in the settings start at `working_dir`, the driver's.
    """

    recipe: Recipe
    store: RunStore
    cluster: Cluster
    isolated: bool
    forms: frozenset[Form] = frozenset()
    ledger: str = ""
    working_dir: str = field(default_factory=os.getcwd)

    @property
    def window(self) -> int:
        """Prompts that an actor takes at a time. Rows that wait for their group to be written
        keep their place, and `in_flight` further prompts keep the engines busy."""
        return self.cluster.in_flight + self.store.settings.flush_rows - 1


class Worker:
    """Takes prompts, commits their rows and returns one `PromptStatus` for each.

    Rows do not travel through Ray's object store: a row counts once the worker has committed it.
    """

    def __init__(self, assignment: Assignment, ledger: Any) -> None:
        enter_working_dir(assignment.working_dir)
        node: str = ray.get_runtime_context().get_node_id()
        self._process = Process(f"{node[:8]}-{os.getpid()}-{uuid.uuid4().hex[:6]}", node)
        self._ledger = ledger
        ledger.add_placed.remote()
        self._isolated = assignment.isolated
        self._load_error: str | None = None
        cluster = assignment.cluster
        # Prompts of further tasks wait here and not in the pump. The ledger does not know them
        # yet, so a crash makes none of them a suspect.
        self._window = asyncio.Semaphore(assignment.window)
        faulthandler.dump_traceback_later(cluster.load_seconds, exit=True, file=sys.stderr)
        try:
            self._maker = self._open(assignment.recipe)
            self._check_models(assignment.store)
            if "system" in assignment.forms:
                self._maker.engines.check_system_turns()
            if "tools" in assignment.forms:
                self._maker.engines.check_tools()
        except (ModelError, StoreError) as error:
            # Ray restarts an actor whose constructor fails, and the reason would be lost. So the
            # actor comes up and reports the reason for each prompt.
            self._load_error = str(error)
            return
        finally:
            faulthandler.cancel_dump_traceback_later()
        self._pump = Pump(
            self._maker,
            assignment.store,
            worker=self._process.worker,
            in_flight=cluster.in_flight,
            hang_seconds=cluster.hang_seconds,
            fatal=self._die,
        )
        threading.Thread(target=self._flush_when_stopped, daemon=True).start()

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """`batch` holds pickled items; the statuses are in its order."""
        items: list[Item] = [pickle.loads(value.as_py()) for value in batch["item"]]
        group = len(items) if self._isolated else 0
        return to_table(await asyncio.gather(*(self._one(item, group) for item in items)))

    async def _one(self, item: Item, group: int) -> PromptStatus:
        if self._load_error is not None:
            return _status(item, PromptState.LOAD_FAILED, self._load_error)
        async with self._window:
            key = (item.prompt.id, item.prompt.sample)
            decision: Decision = await self._ledger.begin.remote(key, self._process, group)
            match decision.action:
                case Action.STOP:
                    return _status(item, PromptState.STOPPED)
                case Action.DEFER:
                    return _status(item, PromptState.DEFERRED)
                case Action.SKIP if decision.reason is not None:
                    return _status(item, PromptState.DEAD, decision.reason)
                case Action.SKIP:
                    return _status(item, PromptState.ALREADY_COMMITTED)
                case Action.GIVE_UP | Action.RUN:
                    return await self._work(item, decision)

    async def _work(self, item: Item, decision: Decision) -> PromptStatus:
        if decision.action is Action.GIVE_UP:
            future = self._pump.give_up(item, decision.attempt, decision.reason or "")
        else:
            future = self._pump.submit(item, decision.attempt)
        try:
            row = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            return _status(item, PromptState.STOPPED)
        except Exception as error:  # noqa: BLE001 - the driver ends the run with it
            return _status(item, PromptState.COMMIT_FAILED, f"{type(error).__name__}: {error}")
        # Awaited: the ledger forgets the prompt once the driver has the report of this task.
        await self._ledger.end.remote((item.prompt.id, item.prompt.sample), row["error"])
        if row["error"] is not None:
            return _status(item, PromptState.DEAD, row["error"])
        numbers = {**self._maker.numbers(row), "flops": row["cost"]["flops"]}
        return _status(item, PromptState.DONE, json.dumps(numbers))

    def _open(self, recipe: Recipe) -> Maker:
        """Load the models. Once another worker could load them, a failure may pass (its GPU may
        not be free yet), so it is retried. Raises ModelError."""
        for attempt in range(LOAD_TRIES):
            try:
                maker = recipe.open()
            except Exception as error:
                loaded_before = ray.get(self._ledger.ever_loaded.remote())
                if attempt == LOAD_TRIES - 1 or not loaded_before:
                    if isinstance(error, ModelError):
                        raise
                    raise ModelError(f"{type(error).__name__}: {error}") from error
                time.sleep(5 * 2**attempt)
            else:
                ray.get(self._ledger.loaded.remote(self._process.worker))
                return maker
        raise AssertionError("the loop returns or raises")

    def _check_models(self, store: RunStore) -> None:
        """Raises ModelError where this worker has loaded other models than those of the run, and
        StoreError."""
        here = self._maker.engines.identities
        # The driver has written the models that it can see. The ledger decides on the others, and
        # they are written before a row is made with them, for the next driver.
        agreed: dict[str, Identity] = ray.get(self._ledger.agree.remote(here))
        written = read_models(store.folder)
        run = {**agreed, **written}
        require_same(store.folder, run, here)
        if run != written:
            write_models(store.folder, run)

    def _flush_when_stopped(self) -> None:
        try:
            while not ray.get(self._ledger.stopped.remote()):
                time.sleep(0.5)
        except Exception as error:  # noqa: BLE001 - of Ray: the ledger and so the driver are gone
            LOG.warning("%s flushes: the ledger is gone: %s", self._process.worker, error)
        try:
            self._pump.flush().result()
        finally:
            # Also where the rows cannot be committed: their prompts must not be waited for.
            self._pump.abandon()
            self._ledger.flushed.remote(self._process.worker)

    def _die(self, reason: str) -> None:
        """End this process. Ray starts another one, and the ledger keeps the reason."""
        try:
            shown = shown_uri(visible(reason))
            sys.stderr.write(f"worker {self._process.worker} ends itself: {shown}\n")
            sys.stderr.writelines(self._pump.engine_stack())
            ray.get(self._ledger.blame.remote(self._process.worker, reason), timeout=5)
        finally:
            # Ray restarts an actor that exits this way, but none that calls `exit_actor`.
            os._exit(1)


class PoolWorker(Worker):
    """A worker as the pool starts it."""

    def __init__(self, assignment: Assignment) -> None:
        # By its name: see `actor_arguments`.
        super().__init__(assignment, ray.get_actor(assignment.ledger))


def _status(item: Item, state: PromptState, detail: str = "") -> PromptStatus:
    return PromptStatus((item.prompt.id, item.prompt.sample), state, detail)
