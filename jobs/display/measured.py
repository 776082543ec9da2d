"""Measurements of a model in training: a line for each, rows of a table at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from jobs.display import console


def print_figures(measurement: Mapping[str, Any], names: Sequence[str]) -> None:
    """A line on a checkpoint. Figures that were not measured (None) are left out."""
    known = {name: x for name in names if (x := measurement.get(name)) is not None}
    parts = [f"step {measurement['step']}", *(f"{name} {x:.3f}" for name, x in known.items())]
    console.print_line("  ".join(parts))


def add_figures(
    table: Table, name: str, figures: Mapping[str, Any], columns: Sequence[str]
) -> None:
    """A row of a table: a name, then one cell for each column."""
    table.add_row(name, *(_cell(figures.get(column)) for column in columns))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
