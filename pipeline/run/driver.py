"""The driver of a run: one process that brings a run folder to its end.

take the lease -> scan what is committed -> run what is missing (`rounds`) -> compact
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nabla_core.models.location import check_locations
from pipeline.cluster.connection import (
    any_node_has,
    connected,
    require_resources,
    translate_ray_errors,
)
from pipeline.errors import DamagedError, LeaseError
from pipeline.inputs.prompt_forms import Form, PromptForms
from pipeline.inputs.prompts import index
from pipeline.run.budget import COLUMNS, Spending
from pipeline.run.placement import require_placement
from pipeline.run.plan import Plan, RunOutcome, Watcher, open_store
from pipeline.run.rounds import End, Rounds
from pipeline.store import manifest
from pipeline.store.checks import config_check, models_check
from pipeline.store.checks.owner import check_owner
from pipeline.store.input_index import InputIndex
from pipeline.store.last_error import error_kept
from pipeline.store.lease import Lease
from pipeline.store.run_folder import translate_os_errors
from pipeline.store.run_store import RunStore
from pipeline.store.slots import DEAD, FINISHED, MISSING, Slots


@dataclass
class Run:
    """One driver's work on one folder."""

    plan: Plan
    watcher: Watcher
    store: RunStore
    notes: list[str] = field(default_factory=list)
    _lease_lost: bool = False
    _forms: frozenset[Form] = frozenset()

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
        forms = PromptForms()
        inputs = index(forms.counted(self.plan.read()), self.plan.source)
        # If a chat template refuses them, the run ends when the models are loaded, and not after
        # so many dead letters.
        self._forms = forms.common(self.plan.max_dead_fraction)
        lease = Lease(self.store.folder, self.plan.store.lease_seconds, self._on_lease_lost)
        try:
            with error_kept(lease.folder), lease.guarding():
                return self._execute(inputs, lease)
        finally:
            lease.release()

    def _execute(self, inputs: InputIndex, lease: Lease) -> RunOutcome:
        store, plan = self.store, self.plan
        store.hold(lease)
        config_check.check_config(store.folder, plan.config, plan.owner, has_rows=store.has_rows)
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
        if self._spending.reached(slots.committed()):
            return "budget"
        with translate_ray_errors(), connected(self.plan.cluster):
            self._check_resources()
            return self._rounds().run(slots)

    def _rounds(self) -> Rounds:
        return Rounds(
            plan=self.plan,
            watcher=self.watcher,
            store=self.store,
            spending=self._spending,
            raise_if_lost=self._raise_if_lost,
            report_quarantine=self._report_quarantine,
            forms=self._forms,
        )

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
            budget=(self._spending.reached(slots.committed()) or "budget")
            if end == "budget"
            else None,
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
