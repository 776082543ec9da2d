"""A run from its first look at the folder to the done marker, whatever its rows are.

    take the lease -> scan what is committed -> run what is missing -> scan again -> compact

Rounds repeat until nothing is missing. Prompts whose worker process died are put off and
run alone in a later round (see `ledger`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pipeline import config_check, manifest, pool
from pipeline.cluster import Cluster, connected
from pipeline.errors import LeaseError, LoadError, RunError, StoreError
from pipeline.lease import Lease
from pipeline.ledger import Key
from pipeline.parts import DamagedError, with_config
from pipeline.prompts import Item, index
from pipeline.recipe import Recipe
from pipeline.slots import DEAD, FINISHED, MISSING, Slots
from pipeline.store import RunStore, Store
from pipeline.worker import Assignment

FRUITLESS_ROUNDS = 3
FEW = 20
GRACE = 5.0


@dataclass(frozen=True)
class Plan:
    """Everything a run needs. `read()` starts reading the input anew each time.

    `settings` is the resolved config; `shaping` names the part of it that rows depend on,
    which a resume must share.
    """

    run_dir: str
    source: str
    read: Callable[[], Iterable[Item]]
    samples: int
    recipe: Recipe
    settings: Mapping[str, Any]
    shaping: tuple[str, ...]
    cluster: Cluster
    store: Store
    max_attempts: int
    max_dead_fraction: float
    allow_input_change: bool
    retry_dead: bool

    @property
    def config_hash(self) -> str:
        """Of the settings that shape rows."""
        return config_check.digest(config_check.shaping(self.settings, self.shaping))


class Watcher(Protocol):
    """Is told how a run goes."""

    def started(self, total: int, finished: int, dead: int) -> None:
        """The folder is open: how many rows there will be, and are."""

    def heard(self, status: pool.Status) -> None:
        """A prompt fared somehow."""

    def phase(self, text: str) -> None:
        """What is going on now."""


@dataclass
class Outcome:
    """How a run ended. `totals` are the recipe's. `hopeless`: too many dead letters, so it
    was ended early; `already`: there was nothing to do."""

    total: int
    finished: int
    dead: int
    totals: dict[str, Any]
    hopeless: bool = False
    already: bool = False


@dataclass
class Run:
    """One driver's work on one folder."""

    plan: Plan
    watcher: Watcher
    store: RunStore
    notes: list[str] = field(default_factory=list)
    _lost: bool = False
    _ledger: Any = None

    def execute(self) -> Outcome:
        """Bring the folder to its end. Raises StoreError, InputError, RunError.

        KeyboardInterrupt lets workers flush and leaves a folder that can be resumed.
        """
        inputs = index(self.plan.read(), self.plan.source)
        lease = Lease(self.store.folder, self.plan.store.lease_seconds, self._lose)
        try:
            return self._execute(inputs, lease)
        finally:
            lease.release()

    def _execute(self, inputs: dict[str, str], lease: Lease) -> Outcome:
        store, plan = self.store, self.plan
        config_check.enter(store.folder, plan.settings, plan.shaping)
        store.sweep()
        slots = store.scan(inputs, plan.samples)
        if not plan.allow_input_change:
            store.refuse_changes(slots)
        if store.done():
            stale = slots.count(MISSING) or slots.changed or slots.vanished
            if not stale and not (plan.retry_dead and slots.count(DEAD)):
                store.tidy()
                return self._outcome(slots, already=True)
            store.reopen()
            slots = store.scan(inputs, plan.samples)
        if plan.retry_dead:
            slots.forget(DEAD)
        store.announce(len(slots))
        self.watcher.started(len(slots), slots.count(FINISHED), slots.count(DEAD))
        with connected(plan.cluster):
            while True:
                if not self._work(slots):
                    return self._outcome(slots, hopeless=True)
                try:
                    self._finish(slots, lease)
                except DamagedError as error:
                    self.notes.append(f"redone: {error.args[0]}")
                    slots = store.scan(inputs, plan.samples)
                else:
                    return self._outcome(slots)

    def _work(self, slots: Slots) -> bool:
        """Rounds until no slot is missing; False where the run is hopeless."""
        if not slots.count(MISSING):
            return True
        self._ledger = pool.start_ledger(self.plan.max_attempts)
        deaths: Counter[str] = Counter(dead=slots.count(DEAD), done=slots.count(FINISHED))
        suspects: set[Key] = set()
        fruitless = 0
        while missing := slots.count(MISSING):
            keys = {key for key in self._missing_keys(slots) if key not in suspects}
            alone = not keys
            self.watcher.phase("suspects, one at a time" if alone else "running")
            hopeful = self._round(slots, suspects if alone else keys, alone, deaths)
            self.store.rescan(slots)
            if not hopeful:
                return False
            before, suspects = suspects, pool.suspects(self._ledger, self._missing_keys(slots))
            stuck = slots.count(MISSING) == missing and suspects == before
            fruitless = fruitless + 1 if stuck else 0
            if fruitless == FRUITLESS_ROUNDS:
                raise RunError(
                    f"{missing} prompts are not done and {fruitless} rounds changed nothing: "
                    f"does every node see {self.plan.run_dir}? The workers' Ray logs say more"
                )
        return True

    def _round(self, slots: Slots, keys: set[Key], alone: bool, deaths: Counter[str]) -> bool:
        plan = self.plan
        assignment = Assignment(plan.recipe, self.store, plan.cluster, alone)
        statuses = pool.run_pool(self._items(keys), len(keys), assignment, self._ledger)
        whole = False
        try:
            whole = self._follow(statuses, slots, deaths)
        finally:
            if not whole:
                pool.stop(self._ledger, GRACE)
                statuses.wait(GRACE)
        return whole

    def _follow(self, statuses: Iterable[pool.Status], slots: Slots, deaths: Counter[str]) -> bool:
        plan = self.plan
        for status in statuses:
            if self._lost:
                raise LeaseError(f"{plan.run_dir} was taken over by another driver")
            self._heed(status)
            deaths[status.state] += 1
            self.watcher.heard(status)
            ended = deaths["dead"] + deaths["done"]
            if ended >= FEW and deaths["dead"] > plan.max_dead_fraction * ended:
                return False
        return True

    def _heed(self, status: pool.Status) -> None:
        if status.state == "load_failed":
            raise LoadError(status.detail)
        if status.state == "commit_failed":
            raise RunError(f"cannot commit rows to {self.plan.run_dir}: {status.detail}")

    def _items(self, keys: set[Key]) -> Iterator[Item]:
        for item in self.plan.read():
            for sample in range(self.plan.samples):
                if (item.prompt.id, sample) in keys:
                    yield Item(replace(item.prompt, sample=sample), item.fingerprint)

    def _missing_keys(self, slots: Slots) -> Iterator[Key]:
        ids = list(slots.inputs)
        return (slots.key(slot, ids) for slot in slots.in_state(MISSING))

    def _finish(self, slots: Slots, lease: Lease) -> None:
        self.watcher.phase("compacting")
        store = self.store
        parts = store.parts()
        store.supersede(slots)
        files = store.compact(slots)
        if not lease.held():
            raise LeaseError(f"{self.plan.run_dir} was taken over by another driver")
        described = manifest.describe(
            self._totals(),
            config_hash=self.plan.config_hash,
            schema=store.schema,
            counts=_counts(slots),
            files=files,
            notes=self.notes,
        )
        store.folder.write("manifest.json", json.dumps(described, indent=2).encode())
        store.succeed(parts)

    def _totals(self, *, final: bool = True) -> dict[str, Any]:
        recipe = self.plan.recipe
        return recipe.summarise(self.store.rows(recipe.totals, final=final))

    def _outcome(self, slots: Slots, *, hopeless: bool = False, already: bool = False) -> Outcome:
        finished, dead = slots.count(FINISHED), slots.count(DEAD)
        totals = self._totals(final=not hopeless)
        return Outcome(len(slots), finished, dead, totals, hopeless, already)

    def _lose(self) -> None:
        self._lost = True


def execute(plan: Plan, watcher: Watcher) -> Outcome:
    """Run a plan; see `Run.execute`."""
    schema = with_config(plan.recipe.schema, plan.config_hash)
    try:
        return Run(plan, watcher, RunStore(plan.run_dir, schema, plan.store)).execute()
    except OSError as error:
        raise StoreError(f"run folder {plan.run_dir}: {error}") from error


def _counts(slots: Slots) -> dict[str, int]:
    return {
        "rows": len(slots),
        "finished": slots.count(FINISHED),
        "dead": slots.count(DEAD),
    }
