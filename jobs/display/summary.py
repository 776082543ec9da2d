"""How a run ended: a table for a person, an exit code for a script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from jobs.display import console
from jobs.exit_codes import ExitCode
from pipeline.printable import visible
from pipeline.tables.flop_unit import flop_unit

if TYPE_CHECKING:
    from pipeline.run.plan import RunOutcome


def exit_code(outcome: RunOutcome, *, ok_with_dead: bool = False) -> ExitCode:
    """BUDGET where rows are missing because a budget was reached, else INCOMPLETE where prompts
    became dead letters; with `ok_with_dead` only where these ended the run early."""
    if outcome.budget:
        return ExitCode.BUDGET
    if outcome.aborted or (outcome.dead and not ok_with_dead):
        return ExitCode.INCOMPLETE
    return ExitCode.DONE


def print_outcome(run_dir: str, outcome: RunOutcome, table: Table) -> None:
    """A line on how the run ended, and its table. (rich would wrap a title at the width of the
    table.)"""
    console.print_line(headline(run_dir, outcome))
    console.print_table(table)


def headline(run_dir: str, outcome: RunOutcome) -> str:
    """The run folder and how its run ended."""
    if outcome.aborted:
        return f"{run_dir}: ended early, too many dead letters (max_dead_fraction)"
    if outcome.budget:
        return f"{run_dir}: stopped at {outcome.budget}; a larger one continues"
    return f"{run_dir}: {'was already done' if outcome.already_complete else 'done'}"


def counts_table(outcome: RunOutcome, *, rows: str = "rows") -> Table:
    """How many rows are finished and dead; `rows` is what the job calls its rows."""
    table = Table(show_header=False)
    table.add_row(rows, f"{outcome.finished} of {outcome.total}")
    if outcome.dead:
        named = outcome.totals["dead_by_error"].items()
        errors = ", ".join(f"{n} {visible(kind)}" for kind, n in named)
        table.add_row("dead letters", f"{outcome.dead} ({errors})")
    return table


def traces_table(outcome: RunOutcome) -> Table:
    """The counts, and what refinement changed. Means are over committed rows."""
    table = counts_table(outcome)
    totals = outcome.totals
    for name, before, after in (
        ("mean reward", "base_reward", "reward"),
        ("accuracy", "base_correct", "correct"),
    ):
        change = _change(totals["means"][before], totals["means"][after])
        if change:
            table.add_row(name, change)
    made = totals["proposals"]["made"]
    if made:
        accepted = totals["proposals"]["accepted"]
        table.add_row("revisions", f"{accepted} of {made} accepted ({accepted / made:.0%})")
        table.add_row("rows revised", str(totals["revised"]))
    if totals.get("yield"):
        _add_yield(table, totals["yield"])
    cost = totals["cost"]
    if cost:
        table.add_row("generated tokens", f"{cost['generated_tokens']:,}")
        table.add_row("engine seconds", f"{cost['seconds']:.1f}")
    return table


def _add_yield(table: Table, found: Mapping[str, Any]) -> None:
    """What a run is worth as training data: prompts with a right response."""
    per_gflop = found["right_per_gflop"]
    unit, factor = flop_unit([per_gflop])
    cost = "" if per_gflop is None else f", {per_gflop * factor:,.2f} for 1 {unit}"
    table.add_row("prompts solved", f"{found['right']:.4f} of {found['prompts']:,}{cost}")
    if found["right_on_hard"] is not None:
        hard = f"{found['right_on_hard']:.4f} of {found['hard']:,}"
        table.add_row("of greedily wrong ones", hard)
    if found["pass_at"]:
        shares = (f"{share:.4f} at {k}" for k, share in found["pass_at"].items())
        table.add_row("pass@k", ", ".join(shares))


def counterfactuals_table(outcome: RunOutcome) -> Table:
    """The counts, and what the exploration found."""
    table = counts_table(outcome, rows="responses")
    totals = outcome.totals
    if totals["places"]:
        table.add_row("mean score", f"{totals['mean_score']:.4f}")
        table.add_row(
            "positions", f"{totals['places']:,}, at {totals['better']:.0%} another token was better"
        )
        table.add_row("alternatives", f"{totals['alternatives']:,}")
        table.add_row("engine seconds", f"{totals['cost']['seconds']:.1f}")
    return table


def _change(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return ""
    if before == after:  # a method without a first response to improve on, or no change
        return f"{after:.4f}"
    return f"{before:.4f} -> {after:.4f} ({after - before:+.4f})"
