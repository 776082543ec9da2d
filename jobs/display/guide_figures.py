"""The figures of a guide: a line for each measurement, a table at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from jobs.display.measured import add_figures, print_figures

_IN_LINE = ("loss", "top1", "chance", "reward", "accuracy", "calls")
_IN_TABLE = ("step", "loss", "top1", "within", "across", "slope", "reward", "accuracy", "calls")


def print_measurement(measurement: Mapping[str, Any]) -> None:
    """A line on a guide in training. Figures that were not measured (None) are left out."""
    print_figures(measurement, _IN_LINE)


def table(card: Mapping[str, Any]) -> Table:
    """A trained guide beside the judge's own gradient and chance."""
    metrics, judge = card["metrics"], card["judge_gradient"]
    figures = Table("", *_IN_TABLE)
    if judge:
        add_figures(figures, "judge's gradient", judge, _IN_TABLE)
    add_figures(figures, f"this {card['kind']}", metrics, _IN_TABLE)
    add_figures(figures, "chance", {"top1": metrics["chance"]}, _IN_TABLE)
    return figures


def suggestion(card: Mapping[str, Any], kl: float) -> str:
    """One line on the beta that the guide's training suggests."""
    beta = card["metrics"].get("suggested_beta")
    if beta is None:
        return (
            "suggested beta: none, the predicted advantages are too small to move the LM by "
            f"{kl:g} nats a token"
        )
    return (
        f"suggested beta: {beta:g}, which moves the LM by {kl:g} nats a token (validation.kl); one "
        f"unit of the judge is worth {1 / beta:.3g} nats then"
    )
