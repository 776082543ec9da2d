"""A run from its first look at the folder to the done marker, whatever its rows are.

    take the lease -> scan what is committed -> run what is missing -> scan again -> compact

Rounds repeat until nothing is missing. Prompts whose worker process died are put off and
run apart from others in a later round (see `ledger`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.errors import DamagedError, LeaseError, LoadError, RunError
from pipeline.inputs.prompts import Item, index
from pipeline.run import pool
from pipeline.run.cluster import connected, has_room, need_room
from pipeline.run.ledger import Key
from pipeline.run.plan import Outcome, Plan, Watcher, open_store
from pipeline.run.worker import Assignment
from pipeline.store import config_check, manifest
from pipeline.store.lease import Lease
from pipeline.store.run_folder import translate_os_errors
from pipeline.store.run_store import MANIFEST, RunStore
from pipeline.store.slots import DEAD, FINISHED, MISSING, Slots

FRUITLESS_ROUNDS = 3
FEW = 20
GRACE = 5.0


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
        config_check.enter(store.folder, plan.config)
        store.sweep()
        slots = store.scan(inputs, plan.samples)
        if not plan.allow_input_change:
            store.refuse_changes(slots)
        if store.done():
            stale = slots.count(MISSING) or slots.changed or slots.vanished
            if not stale and not (plan.retry_dead and slots.count(DEAD)):
                store.tidy()
                return self._outcome(slots, already_complete=True)
            store.reopen()
            slots = store.scan(inputs, plan.samples)
        if plan.retry_dead:
            slots.forget(DEAD)
        store.announce(len(slots))
        self.watcher.started(len(slots), slots.count(FINISHED), slots.count(DEAD))
        with connected(plan.cluster):
            self._look_for_room()
            while True:
                if not self._work(slots):
                    return self._outcome(slots, aborted=True)
                try:
                    self._finish(slots, lease)
                except DamagedError as error:
                    self.notes.append(f"redone: {error}")
                    slots = store.scan(inputs, plan.samples)
                else:
                    return self._outcome(slots)

    def _look_for_room(self) -> None:
        place = self.plan.cluster
        cpus, gpus = place.cpus_per_actor, place.gpus_per_actor
        if not place.joined:
            need_room("an actor (cluster)", cpus, gpus)
        elif not has_room(cpus, gpus):
            self.watcher.note(
                f"an actor needs {cpus:g} CPU and {gpus:g} GPU (cluster), which no node of the "
                "cluster has: waiting for one that joins"
            )

    def _work(self, slots: Slots) -> bool:
        """Rounds until no slot is missing; False where too many prompts are dead letters."""
        if not slots.count(MISSING):
            return True
        self._ledger = pool.start_ledger(self.plan.max_attempts)
        deaths: Counter[str] = Counter(dead=slots.count(DEAD), done=slots.count(FINISHED))
        groups: list[list[Key]] = []
        fruitless = 0
        while missing := slots.count(MISSING):
            suspects = {key for group in groups for key in group}
            others = {key for key in self._missing_keys(slots) if key not in suspects}
            self.watcher.phase("running" if others else "suspects, apart")
            hopeful = self._follow_to_the_end(self._start(others, groups), deaths)
            self.store.rescan(slots)
            if not hopeful:
                return False
            before, groups = groups, pool.suspects(self._ledger, self._missing_keys(slots))
            stuck = slots.count(MISSING) == missing and groups == before
            fruitless = fruitless + 1 if stuck else 0
            if fruitless == FRUITLESS_ROUNDS:
                raise RunError(
                    f"{missing} prompts are not done and {fruitless} rounds changed nothing: "
                    f"does every node see {self.plan.run_dir}? The workers' Ray logs say more"
                )
        return True

    def _start(self, others: Set[Key], groups: list[list[Key]]) -> pool.Statuses:
        """A round: all that are no suspects, or where there are none of those, the groups."""
        assignment = Assignment(self.plan.recipe, self.store, self.plan.cluster, not others)
        if others:
            return pool.run_pool(self._items(others), len(others), assignment, self._ledger)
        members = {key for group in groups for key in group}
        items = {(i.prompt.id, i.prompt.sample): i for i in self._items(members)}
        apart = [[items[key] for key in group] for group in groups]
        return pool.run_groups(apart, assignment, self._ledger)

    def _follow_to_the_end(self, statuses: pool.Statuses, deaths: Counter[str]) -> bool:
        whole = False
        try:
            whole = self._follow(statuses, deaths)
        finally:
            if not whole:
                pool.stop(self._ledger, GRACE)
                statuses.wait(GRACE)
        return whole

    def _follow(self, statuses: Iterable[pool.Status], deaths: Counter[str]) -> bool:
        plan = self.plan
        for status in statuses:
            if self._lost:
                raise LeaseError(f"{plan.run_dir} was taken over by another driver")
            self._raise_if_fatal(status)
            deaths[status.state] += 1
            self.watcher.on_status(status)
            ended = deaths["dead"] + deaths["done"] + deaths["again"]
            if ended >= FEW and deaths["dead"] > plan.max_dead_fraction * ended:
                return False
        return True

    def _raise_if_fatal(self, status: pool.Status) -> None:
        if status.state == "load_failed":
            raise LoadError(status.detail)
        if status.state == "commit_failed":
            raise RunError(f"cannot commit rows to {self.plan.run_dir}: {status.detail}")

    def _items(self, keys: Set[Key]) -> Iterator[Item]:
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
        store.supersede(slots)
        checksums = store.compact(slots)
        if not lease.held():
            raise LeaseError(f"{self.plan.run_dir} was taken over by another driver")
        described = manifest.describe(
            self._totals(),
            config_hash=self.plan.config_hash,
            schema=store.schema,
            counts=_counts(slots),
            checksums=checksums,
            notes=self.notes,
        )
        store.folder.write(MANIFEST, json.dumps(described, indent=2).encode())
        store.succeed()

    def _totals(self, *, final: bool = True) -> dict[str, Any]:
        recipe = self.plan.recipe
        return recipe.summarise(self.store.rows(recipe.totals, final=final))

    def _outcome(
        self, slots: Slots, *, aborted: bool = False, already_complete: bool = False
    ) -> Outcome:
        finished, dead = slots.count(FINISHED), slots.count(DEAD)
        totals = self._totals(final=not aborted)
        return Outcome(len(slots), finished, dead, totals, aborted, already_complete)

    def _lose(self) -> None:
        self._lost = True


def execute(plan: Plan, watcher: Watcher) -> Outcome:
    """Run a plan; see `Run.execute`."""
    with translate_os_errors(plan.run_dir):
        return Run(plan, watcher, open_store(plan)).execute()


def _counts(slots: Slots) -> dict[str, int]:
    return {
        "rows": len(slots),
        "finished": slots.count(FINISHED),
        "dead": slots.count(DEAD),
    }
