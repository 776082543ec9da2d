"""The figures of a student: a line for each measurement, a table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from jobs.display.measured import add_figures, print_figures

_FIGURES = ("loss", "held_out_loss", "accuracy", "reward", "stopped", "tokens")


def print_measurement(measurement: Mapping[str, Any]) -> None:
    """A line on a checkpoint. Figures that were not measured (None) are left out."""
    print_figures(measurement, _FIGURES)


def table(card: Mapping[str, Any]) -> Table:
    """A student beside its base. Both answer greedily, without a search."""
    figures = Table("", "step", *_FIGURES)
    for name, measured in (("base", card["baseline"]), ("student", card["metrics"])):
        add_figures(figures, name, measured, ("step", *_FIGURES))
    return figures


def warnings(card: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of the table should know."""
    if overlap := card["data"]["validation_overlap"]:
        yield (
            f"{overlap} of the validation prompts, which chose the checkpoint, are in the training "
            "data too"
        )
    chosen = card["chosen_by"]
    base, student = card["baseline"].get(chosen), card["metrics"].get(chosen)
    if base is not None and student is not None and student < base and chosen != "loss":
        yield f"the {chosen} of the student, {student:.3f}, is below that of its base, {base:.3f}"
    if (stopped := card["metrics"]["stopped"]) < 1:
        yield f"{1 - stopped:.1%} of the student's responses do not stop by themselves"
