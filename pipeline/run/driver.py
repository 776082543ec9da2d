"""The driver of a run: one process that brings a run folder to its end.

    take the lease -> scan what is committed -> run what is missing -> scan again -> compact

Rounds repeat until no row is missing. Prompts whose worker process crashed are deferred and run
isolated in a later round (see `ledger`).
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, Literal

from nabla_core.models.location import check_locations
from pipeline.cluster.connection import any_node_has, connected, require_resources
from pipeline.errors import DamagedError, LeaseError, LoadError, PlacementError, RunError
from pipeline.inputs.prompts import index
from pipeline.inputs.system_turns import SystemTurns
from pipeline.run import pool
from pipeline.run.budget import COLUMNS, Spending
from pipeline.run.missing import read_slots
from pipeline.run.placement import Placement, require_placement
from pipeline.run.plan import Plan, RunOutcome, Watcher, open_store
from pipeline.run.prompt_status import ENDED, Key, PromptState, PromptStatus
from pipeline.run.worker import Assignment
from pipeline.store import manifest
from pipeline.store.checks import config_check, models_check
from pipeline.store.checks.owner import check_owner
from pipeline.store.input_index import InputIndex
from pipeline.store.lease import Lease
from pipeline.store.run_folder import translate_os_errors
from pipeline.store.run_store import RunStore
from pipeline.store.slots import DEAD, FINISHED, MISSING, Slots

# Rounds after which no slot has changed.
MAX_IDLE_ROUNDS = 3
# Fewer ended prompts are no evidence that too many of them fail.
MIN_ENDED = 20
# After an interrupt: for the workers to commit what waits, and for Ray Data to end by itself.
# Kubernetes and Slurm kill after 30 seconds.
FLUSH_SECONDS, END_SECONDS = 15.0, 3.0

# How the work on the missing slots ends.
End = Literal["completed", "too_many_dead", "budget"]


class _TimeUpError(Exception):
    """`budget.seconds` are over."""


@dataclass
class Run:
    """One driver's work on one folder."""

    plan: Plan
    watcher: Watcher
    store: RunStore
    notes: list[str] = field(default_factory=list)
    _lease_lost: bool = False
    _ledger: Any = None
    _ledger_name: str = field(default_factory=lambda: f"ledger-{uuid.uuid4().hex}")
    _placement: Any = None
    _check_system_turns: bool = False
    # So many of the first slots may be filled.
    _first: int = 0

    def __post_init__(self) -> None:
        self._spending = Spending(self.plan.budget)

    def execute(self) -> RunOutcome:
        """Bring the folder to its end. Raises StoreError, InputError, RunError, ModelError.

        KeyboardInterrupt lets the workers commit what waits, and leaves a folder that the same
        command resumes.
        """
        check_owner(self.store.folder, self.plan.owner)
        for note in self.plan.notes:
            self.watcher.note(note)
        if not self.plan.cluster.ray_address and not self.store.is_complete():
            # Before the config is written, so that a mistyped path does not occupy the folder. On
            # a cluster other nodes may have the models.
            check_locations(self.plan.model_paths)
        turns = SystemTurns()
        inputs = index(turns.counted(self.plan.read()), self.plan.source)
        # If a chat template refuses them, the run ends when the models are loaded, and not after
        # so many dead letters.
        self._check_system_turns = turns.share > self.plan.max_dead_fraction
        lease = Lease(self.store.folder, self.plan.store.lease_seconds, self._on_lease_lost)
        try:
            with lease.guarding():
                return self._execute(inputs, lease)
        finally:
            lease.release()

    def _execute(self, inputs: InputIndex, lease: Lease) -> RunOutcome:
        store, plan = self.store, self.plan
        store.hold(lease)
        config_check.check_config(store.folder, plan.config, plan.owner)
        store.delete_temporary()
        slots = self._scan(inputs)
        models_check.check_models(store.folder, plan.recipe.models(), rows=bool(slots.files))
        if not plan.allow_input_change:
            store.refuse_changes(slots)
        if store.is_complete():
            stale = slots.count(MISSING) or slots.changed or slots.removed
            if not stale and not (plan.retry_dead and slots.count(DEAD)):
                store.delete_parts()
                return self._outcome(slots, already_complete=True)
            store.reopen()
            slots = self._scan(inputs)
        if plan.retry_dead:
            slots.forget(DEAD)
        self._spending.set_flops(store.rows(COLUMNS, final=False))
        store.write_expected(len(slots))
        self.watcher.started(len(slots), slots.count(FINISHED), slots.count(DEAD))
        while True:
            end = self._make_missing(slots)
            if end != "completed":
                return self._outcome(slots, end=end)
            try:
                self._finish(slots)
            except DamagedError as error:
                # A part was damaged after its worker had committed it: its rows are missing
                # again.
                self._tell(f"rows made again: {error}")
                slots = self._scan(inputs)
            else:
                return self._outcome(slots)

    def _make_missing(self, slots: Slots) -> End:
        """Run what is missing on Ray; without a missing slot no Ray is started."""
        if not slots.count(MISSING):
            return "completed"
        if self._reached(slots):
            return "budget"
        with connected(self.plan.cluster):
            self._check_resources()
            return self._work(slots)

    def _scan(self, inputs: InputIndex) -> Slots:
        slots = self.store.scan(inputs, self.plan.samples)
        self._report_quarantine()
        return slots

    def _report_quarantine(self) -> None:
        """Tell the user which files were set aside since the last report."""
        if report := self.store.quarantine.report():
            self._tell(report)

    def _tell(self, text: str) -> None:
        """Say it now, and in the manifest."""
        self.notes.append(text)
        self.watcher.note(text)

    def _check_resources(self) -> None:
        cluster = self.plan.cluster
        cpus, gpus = cluster.cpus_per_actor, cluster.gpus_per_actor
        if not cluster.ray_address:
            require_resources("an actor (cluster)", cpus, gpus)
            require_placement(cluster, self.watcher.note)
        elif not any_node_has(cpus, gpus):
            # A cluster may be one that adds nodes on demand, so this is no error.
            self.watcher.note(
                f"an actor needs {cpus:g} CPU and {gpus:g} GPU (cluster), which no node of the "
                "cluster has: waiting for one that joins"
            )

    def _work(self, slots: Slots) -> End:
        """Run rounds until no slot is missing that the budget allows."""
        self._ledger = pool.start_ledger(self.plan.max_attempts, self._ledger_name)
        try:
            return self._run_rounds(slots)
        finally:
            pool.end_ledger(self._ledger)

    def _run_rounds(self, slots: Slots) -> End:
        self._placement = Placement(self._ledger, self.plan.cluster)
        counts: Counter[PromptState] = Counter(
            {PromptState.DEAD: slots.count(DEAD), PromptState.DONE: slots.count(FINISHED)}
        )
        groups: list[list[Key]] = []
        idle_rounds = 0
        self._first = self._within_budget(slots)
        while missing := slots.count(MISSING, self._first):
            end = self._follow_to_the_end(self._start(slots, groups), counts)
            # What the store holds counts, not what was reported: Ray may have lost the report of
            # a committed row, and a reported row may be on a node's disk that is gone.
            self.store.rescan(slots)
            self._report_quarantine()
            if end == "too_many_dead":
                return end
            if slots.count(MISSING) and (end == "budget" or self._reached(slots)):
                return "budget"
            self._placement.next_round()
            before, groups = groups, pool.suspects(self._ledger, slots.is_missing_key)
            stuck = slots.count(MISSING, self._first) == missing and groups == before
            idle_rounds = idle_rounds + 1 if stuck else 0
            if idle_rounds == MAX_IDLE_ROUNDS:
                raise RunError(
                    f"{missing} prompts are not done and {idle_rounds} rounds changed nothing: "
                    f"does every node see {self.plan.run_dir}? The workers' Ray logs say more"
                )
        return "completed"

    def _reached(self, slots: Slots) -> str | None:
        return self._spending.reached(len(slots) - slots.count(MISSING))

    def _within_budget(self, slots: Slots) -> int:
        """How many of the first slots are filled when `budget.rows` are committed."""
        rows = self.plan.budget.rows
        if rows is None:
            return len(slots)
        left = rows - (len(slots) - slots.count(MISSING))
        return next(islice(slots.in_state(MISSING), left - 1, None), len(slots) - 1) + 1

    def _start(self, slots: Slots, groups: list[list[Key]]) -> pool.Statuses:
        """Start a round: with all missing prompts that are no suspects, or if none is left, with
        the groups of suspects."""
        suspects = {slots.find(*key): key for group in groups for key in group}
        others = slots.count(MISSING, self._first) - len(suspects)
        assignment = Assignment(
            self.plan.recipe,
            self.store,
            self.plan.cluster,
            isolated=not others,
            check_system_turns=self._check_system_turns,
            ledger=self._ledger_name,
        )
        self.watcher.phase("running" if others else "running suspects isolated")
        if others:
            items = read_slots(
                self.plan,
                slots,
                lambda slot: slot < self._first and slots.is_missing(slot) and slot not in suspects,
            )
            items = takewhile(lambda _: not self._spending.are_flops_spent(), items)
            return pool.run_pool(items, others, assignment, self._ledger)
        found = read_slots(self.plan, slots, suspects.__contains__)
        items_by_key = {(item.prompt.id, item.prompt.sample): item for item in found}
        batches = [[items_by_key[key] for key in group] for group in groups]
        return pool.run_groups(batches, assignment, self._ledger)

    def _follow_to_the_end(self, statuses: pool.Statuses, counts: Counter[PromptState]) -> End:
        end: End | None = None
        try:
            end = self._follow(statuses.each(self._while_waiting), counts)
        finally:
            if end != "completed":
                # Also after KeyboardInterrupt: rows that wait to be committed must not be lost.
                pool.stop(self._ledger, FLUSH_SECONDS)
                statuses.wait(END_SECONDS)
        return end

    def _while_waiting(self) -> None:
        self._raise_if_lost()  # a status may be long in coming
        if self._spending.is_time_up():
            raise _TimeUpError
        self._check_placement()

    def _check_placement(self) -> None:
        """Raises PlacementError where the Ray of this run places no actor; a cluster gets more
        time, since nodes may join it."""
        try:
            self._placement.check()
        except PlacementError as error:
            if not self.plan.cluster.ray_address:
                raise
            self.watcher.note(f"{error}: waiting for a node that joins")

    def _follow(self, statuses: Iterable[PromptStatus], counts: Counter[PromptState]) -> End:
        """Read a round's statuses, until too many prompts are dead letters or the time is up."""
        limit = self.plan.max_dead_fraction
        try:
            for status in statuses:
                self._raise_if_lost()
                self._raise_if_fatal(status)
                counts[status.state] += 1
                self.watcher.on_status(status)
                ended = sum(counts[state] for state in ENDED)
                if ended >= MIN_ENDED and counts[PromptState.DEAD] > limit * ended:
                    return "too_many_dead"
                self._spend(status)
        except _TimeUpError:
            return "budget"
        return "completed"

    def _spend(self, status: PromptStatus) -> None:
        """Raises _TimeUpError; lets no further prompt begin once the FLOPs are spent."""
        self._spending.add(status)
        if self._spending.is_time_up():
            raise _TimeUpError
        if self._spending.are_flops_spent():
            # Each time: a ledger that was restarted meanwhile does not know it.
            self._ledger.drain.remote()

    def _raise_if_fatal(self, status: PromptStatus) -> None:
        if status.state is PromptState.LOAD_FAILED:
            raise LoadError(status.detail)
        if status.state is PromptState.COMMIT_FAILED:
            raise RunError(f"cannot commit rows to {self.plan.run_dir}: {status.detail}")

    def _finish(self, slots: Slots) -> None:
        """Write the final files, the manifest and the marker of success. Raises LeaseError,
        DamagedError."""
        self.watcher.phase("compacting")
        store = self.store
        if report := store.supersede(slots):
            self._tell(report)
        self._report_quarantine()  # the copying reads all parts once more
        checksums = store.compact(slots)
        described = manifest.describe(
            self._totals(),
            config_hash=self.plan.config_hash,
            schema=store.schema,
            counts=_counts(slots),
            checksums=checksums,
            notes=self.notes,
        )
        store.mark_complete(described)

    def _totals(self, *, final: bool = True) -> dict[str, Any]:
        recipe = self.plan.recipe
        return recipe.summarise(self.store.rows(recipe.summary_columns, final=final))

    def _outcome(
        self, slots: Slots, *, end: End = "completed", already_complete: bool = False
    ) -> RunOutcome:
        return RunOutcome(
            total=len(slots),
            finished=slots.count(FINISHED),
            dead=slots.count(DEAD),
            totals=self._totals(final=end == "completed"),
            aborted=end == "too_many_dead",
            already_complete=already_complete,
            # Between the end of the work and here a committed row may have turned out damaged.
            budget=(self._reached(slots) or "budget") if end == "budget" else None,
        )

    def _on_lease_lost(self) -> None:
        self._lease_lost = True

    def _raise_if_lost(self) -> None:
        if self._lease_lost:
            raise LeaseError(f"{self.plan.run_dir} was taken over by another driver")


def execute(plan: Plan, watcher: Watcher) -> RunOutcome:
    """Run a plan; see `Run.execute`."""
    with translate_os_errors(plan.run_dir):
        return Run(plan, watcher, open_store(plan)).execute()


def _counts(slots: Slots) -> dict[str, int]:
    return {
        "rows": len(slots),
        "finished": slots.count(FINISHED),
        "dead": slots.count(DEAD),
    }
