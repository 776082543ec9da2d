"""What is told of a guide: a line for each measurement, a table at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from jobs import console

_LINE = ("loss", "top1", "chance", "reward", "accuracy", "calls")
_TABLE = ("step", "loss", "top1", "within", "across", "slope", "reward", "accuracy", "calls")


def tell(measurement: Mapping[str, Any]) -> None:
    """A line on a guide in training; without what was not measured."""
    figures = {name: measurement[name] for name in _LINE if measurement[name] is not None}
    told = [f"step {measurement['step']}", *(f"{name} {x:.3f}" for name, x in figures.items())]
    console.say("  ".join(told))


def table(card: Mapping[str, Any]) -> Table:
    """A trained guide beside the judge's own gradient and chance."""
    metrics, judge = card["metrics"], card["judge_gradient"]
    shown = Table("", *_TABLE)
    if judge:
        _row(shown, "judge's gradient", judge)
    _row(shown, f"this {card['kind']}", metrics)
    _row(shown, "chance", {"top1": metrics["chance"]})
    return shown


def _row(shown: Table, name: str, figures: Mapping[str, Any]) -> None:
    shown.add_row(name, *(_cell(figures.get(column)) for column in _TABLE))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
