"""The figures of a student: progress, a line for each measurement, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobs import console

if TYPE_CHECKING:
    from pipeline.training import progress

_FIGURES = ("loss", "held_out_loss", "accuracy", "reward", "stopped", "tokens")
LOG_SECONDS = 10.0


def print_measurement(measurement: Mapping[str, Any]) -> None:
    """A line on a checkpoint. Figures that were not measured (None) are left out."""
    known = {name: measurement[name] for name in _FIGURES if measurement[name] is not None}
    parts = [f"step {measurement['step']}", *(f"{name} {x:.3f}" for name, x in known.items())]
    console.print_line("  ".join(parts))


class Progress:
    """One live line on a terminal, a line every `LOG_SECONDS` in a log."""

    def __init__(self) -> None:
        self._console = console.unstyled(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._logged = time.monotonic()

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, made: progress.Progress) -> None:
        """Show how far the training is."""
        text = line(made)
        if self._console.is_terminal:
            self._live.update(Text(text))
        elif time.monotonic() - self._logged >= LOG_SECONDS or made.step == made.steps:
            self._logged = time.monotonic()
            self._console.print(text)


def line(made: progress.Progress) -> str:
    """How far a training is, in one line."""
    minutes, seconds = divmod(int(made.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"step {made.step}/{made.steps}  {made.seconds:.2f} s/step  {left} left"


def table(card: Mapping[str, Any]) -> Table:
    """A student beside its base. Both answer greedily, without a search."""
    figures = Table("", "step", *_FIGURES)
    for name, measured in (("base", card["baseline"]), ("student", card["metrics"])):
        figures.add_row(name, *(_cell(measured.get(column)) for column in ("step", *_FIGURES)))
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


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
