"""The figures of a judge: a line for each measurement, a table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from jobs.display.measured import add_figures, print_figures

_FIGURES = (
    *("loss", "held_out_loss", "accuracy", "best_of"),
    *("auc", "fresh_auc", "fresh_auc_within_prompts", "searched_auc", "scale"),
)
# An AUC over all answers that is higher than the one within prompts by this much or more comes in
# part from knowing which prompts are hard.
_GAP = 0.1


def print_measurement(measurement: Mapping[str, Any]) -> None:
    """A line on a checkpoint. Figures that were not measured (None) are left out."""
    print_figures(measurement, _FIGURES)


def table(card: Mapping[str, Any]) -> Table:
    """The new judge beside the last one, each searched against on its own."""
    figures = Table("", "step", *_FIGURES)
    for name, measured in (("last judge", card["baseline"]), ("this judge", card["metrics"])):
        if not measured:  # this judge is the first
            continue
        add_figures(figures, name, measured, ("step", *_FIGURES))
    return figures


def warnings(card: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of the table should know."""
    if overlap := card["data"]["validation_overlap"]:
        yield (
            f"the data has answers to {overlap} of the validation prompts; they were not trained on"
        )
    last, new = card["baseline"], card["metrics"]
    over_all, within = new.get("fresh_auc"), new.get("fresh_auc_within_prompts")
    if over_all is not None and within is not None and over_all - within >= _GAP:
        yield (
            f"AUC is {over_all:.3f} over all fresh samples and {within:.3f} among samples of one "
            "prompt, which is what best of N and a search need: the judge knows hard prompts "
            "better than right answers (validation.metric=auc_within_prompts chooses by the second)"
        )
    for name, told in (("accuracy", "accuracy of the search"), ("best_of", "best of the samples")):
        before, after = last.get(name), new.get(name)
        if before is not None and after is not None and after < before:
            yield f"the {told} is {after:.3f} with this judge and {before:.3f} with the last one"
