"""The rounds of a run: the work on its missing rows, on a Ray that is connected.

Rounds repeat until no row is missing that the budget allows. Prompts whose worker process crashed
are deferred and run isolated in a later round (see `ledger`).
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, Literal

from pipeline.errors import LoadError, PlacementError, RunError
from pipeline.inputs.prompt_forms import Form
from pipeline.run import pool
from pipeline.run.budget import Spending
from pipeline.run.missing import read_slots
from pipeline.run.placement import Placement
from pipeline.run.plan import Plan, Watcher
from pipeline.run.prompt_status import ENDED, Key, PromptState, PromptStatus
from pipeline.run.worker import Assignment
from pipeline.store.run_store import RunStore
from pipeline.store.slots import DEAD, FINISHED, MISSING, Slots

# Rounds after which no slot has changed.
MAX_IDLE_ROUNDS = 3
# Fewer ended prompts are no evidence that too many of them fail.
MIN_ENDED = 20
# After an interrupt: for the workers to commit what waits, and for Ray Data to end by itself.
# Kubernetes and Slurm kill after 30 seconds.
FLUSH_SECONDS, END_SECONDS = 15.0, 3.0

# How the work on the missing rows ends.
End = Literal["completed", "too_many_dead", "budget"]


class _TimeUpError(Exception):
    """`budget.seconds` are over."""


@dataclass(kw_only=True)
class Rounds:
    """The work on the missing rows of one folder. `raise_if_lost` raises LeaseError where the lease
    is lost; `report_quarantine` tells the user which files were set aside."""

    plan: Plan
    watcher: Watcher
    store: RunStore
    spending: Spending
    raise_if_lost: Callable[[], None]
    report_quarantine: Callable[[], None]
    forms: frozenset[Form]
    _ledger: Any = None
    _ledger_name: str = field(default_factory=lambda: f"ledger-{uuid.uuid4().hex}")
    _placement: Any = None
    # So many of the first slots may be filled.
    _first: int = 0

    def run(self, slots: Slots) -> End:
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
            self.report_quarantine()
            if end == "too_many_dead":
                return end
            if slots.count(MISSING) and (
                end == "budget" or self.spending.reached(slots.committed())
            ):
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

    def _within_budget(self, slots: Slots) -> int:
        """How many of the first slots are filled when `budget.rows` are committed."""
        rows = self.plan.budget.rows
        if rows is None:
            return len(slots)
        left = rows - slots.committed()
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
            forms=self.forms,
            ledger=self._ledger_name,
        )
        self.watcher.phase("running" if others else "running suspects isolated")
        if others:
            items = read_slots(
                self.plan,
                slots,
                lambda slot: slot < self._first and slots.is_missing(slot) and slot not in suspects,
            )
            items = takewhile(lambda _: not self.spending.are_flops_spent(), items)
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
                statuses.end(END_SECONDS)
        return end

    def _while_waiting(self) -> None:
        self.raise_if_lost()  # a status may be long in coming
        if self.spending.is_time_up():
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
                self.raise_if_lost()
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
        self.spending.add(status)
        if self.spending.is_time_up():
            raise _TimeUpError
        if self.spending.are_flops_spent():
            # Each time: a ledger that was restarted meanwhile does not know it.
            self._ledger.drain.remote()

    def _raise_if_fatal(self, status: PromptStatus) -> None:
        if status.state is PromptState.LOAD_FAILED:
            raise LoadError(status.detail)
        if status.state is PromptState.COMMIT_FAILED:
            raise RunError(f"cannot commit rows to {self.plan.run_dir}: {status.detail}")
