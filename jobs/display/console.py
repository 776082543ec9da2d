"""What the commands print on standard output and standard error."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.printable import visible, visible_lines
from pipeline.references import redacted


class _SafeConsole(Console):
    """A console for texts of others: control characters, secrets in URIs and values from the
    environment are not printed."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(clean(o) if isinstance(o, str) else o for o in objects), **options)


def clean(text: str) -> str:
    """The text as a terminal or a log may show it; its newlines stay (see `visible`)."""
    return visible_lines(redacted(text))


def quoted(text: str) -> str:
    """A text of several lines as part of a message: each line behind a bar, so that no line of it
    can be taken for one of ours."""
    return "\n".join(f"  | {visible(line)}" for line in text.split("\n"))


def unstyled(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console that prints text as it is, but for what no terminal may show.

    Prompt ids and errors may hold "[/INST]" or ":100:", which rich would read as markup and
    emoji; a line of a log must not be wrapped.
    """
    return _SafeConsole(
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
    for column in table.columns:
        column._cells = [visible(clean(c)) if isinstance(c, str) else c for c in column._cells]
    _OUT.print(table)


def print_note(text: str) -> None:
    """A message for the person who started the command, on standard error."""
    _ERR.print(text)


def print_error(error: Exception | str) -> None:
    """An error on standard error. Further lines are indented: a line of an error is none of a
    log."""
    _ERR.print(f"error: {error}".replace("\n", "\n  "))
