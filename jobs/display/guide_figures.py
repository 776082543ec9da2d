"""The figures of a guide: a line for each measurement, a table at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from jobs.display import console

_IN_LINE = ("loss", "top1", "chance", "reward", "accuracy", "calls")
_IN_TABLE = ("step", "loss", "top1", "within", "across", "slope", "reward", "accuracy", "calls")


def print_measurement(measurement: Mapping[str, Any]) -> None:
    """A line on a guide in training. Figures that were not measured (None) are left out."""
    figures = {name: measurement[name] for name in _IN_LINE if measurement[name] is not None}
    parts = [f"step {measurement['step']}", *(f"{name} {x:.3f}" for name, x in figures.items())]
    console.print_line("  ".join(parts))


def table(card: Mapping[str, Any]) -> Table:
    """A trained guide beside the judge's own gradient and chance."""
    metrics, judge = card["metrics"], card["judge_gradient"]
    figures = Table("", *_IN_TABLE)
    if judge:
        _add_row(figures, "judge's gradient", judge)
    _add_row(figures, f"this {card['kind']}", metrics)
    _add_row(figures, "chance", {"top1": metrics["chance"]})
    return figures


def _add_row(table: Table, name: str, figures: Mapping[str, Any]) -> None:
    table.add_row(name, *(_cell(figures.get(column)) for column in _IN_TABLE))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
