"""What the commands print on standard output and standard error."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table


def unstyled(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console that prints text as it is.

    Prompt ids and errors may hold "[/INST]" or ":100:", which rich would read as markup and
    emoji; a line of a log must not be wrapped.
    """
    return Console(
        stderr=stderr, width=width, highlight=False, soft_wrap=True, markup=False, emoji=False
    )


# A log has no width of its own, and rich would cut tables at 80 columns.
_OUT = unstyled(width=None if sys.stdout.isatty() else 140)
_ERR = unstyled(stderr=True)


def print_line(text: str) -> None:
    """A line on standard output."""
    _OUT.print(text)


def print_table(table: Table) -> None:
    """A table on standard output."""
    _OUT.print(table)


def print_note(text: str) -> None:
    """A message for the person who started the command, on standard error."""
    _ERR.print(text)


def print_error(error: Exception | str) -> None:
    """An error on standard error."""
    _ERR.print(f"error: {error}")
