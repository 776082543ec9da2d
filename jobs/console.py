"""What the jobs print, and how they are interrupted."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from pipeline.run.plan import Outcome


def plain(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console that shows texts as they are: "[/INST]" is no markup in an id or an error,
    ":100:" no emoji, and a line of a log has no width."""
    return Console(
        stderr=stderr, width=width, highlight=False, soft_wrap=True, markup=False, emoji=False
    )


# In a log a table is as wide as it needs; a terminal has a width of its own.
_OUT = plain(width=None if sys.stdout.isatty() else 140)
_ERR = plain(stderr=True)


def say(text: str) -> None:
    """A line on standard output."""
    _OUT.print(text)


def show(table: Table) -> None:
    """A table on standard output."""
    _OUT.print(table)


def error(failure: Exception) -> None:
    """A failure on standard error."""
    _ERR.print(f"error: {failure}")


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt in the block, as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def close_table(run_dir: str, outcome: Outcome) -> None:
    """How the run ended, from the committed rows."""
    totals = outcome.totals
    table = Table(title=headline(run_dir, outcome), title_justify="left", show_header=False)
    table.add_row("rows", f"{outcome.finished} of {outcome.total}")
    if outcome.dead:
        errors = ", ".join(f"{n} {kind}" for kind, n in totals["dead_by_error"].items())
        table.add_row("dead letters", f"{outcome.dead} ({errors})")
    for what, before, after in (
        ("reward", "base_reward", "reward"),
        ("accuracy", "base_correct", "correct"),
    ):
        change = _change(totals["means"][before], totals["means"][after])
        if change:
            table.add_row(f"mean {what}" if what == "reward" else what, change)
    made = totals["proposals"]["made"]
    if made:
        accepted = totals["proposals"]["accepted"]
        table.add_row("revisions", f"{accepted} of {made} accepted ({accepted / made:.0%})")
        table.add_row("rows revised", str(totals["revised"]))
    cost = totals["cost"]
    if cost:
        table.add_row("generated tokens", f"{cost['generated_tokens']:,}")
        table.add_row("engine seconds", f"{cost['seconds']:.1f}")
    _OUT.print(table)


def headline(run_dir: str, outcome: Outcome) -> str:
    """The run folder and how its run ended."""
    if outcome.hopeless:
        return f"{run_dir}: ended early, too many dead letters (max_dead_fraction)"
    return f"{run_dir}: {'was already done' if outcome.already else 'done'}"


def _change(before: Any, after: Any) -> str:
    if before is None or after is None:
        return ""
    return f"{before:.4f} -> {after:.4f} ({after - before:+.4f})"
