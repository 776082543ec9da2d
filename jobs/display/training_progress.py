"""The progress of a training, on a terminal or in a log."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from jobs.display import console
from pipeline.durations import clock

if TYPE_CHECKING:
    from pipeline.training import progress

LOG_SECONDS = 10.0
PREPARING = "before the first step: reading data and models, drawing validation samples"
FINISHING = "after the last step: measuring and storing the checkpoint"


class Progress:
    """One live line on a terminal. In a log a line at once, and then every `LOG_SECONDS`, also
    while data and models are read or a step takes long."""

    def __init__(self) -> None:
        self._since = self._logged = time.monotonic()
        self._last: progress.Progress | None = None
        self._console = console.unstyled(stderr=True)
        self._live = Live(
            console=self._console,
            refresh_per_second=4,
            transient=True,
            get_renderable=lambda: Text(self._line()),
        )
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._log, daemon=True)

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        else:
            self._print()
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def show(self, made: progress.Progress) -> None:
        """Show how far the training is."""
        if made.step == made.steps and self._last is not None and self._last.step < made.step:
            self._since = time.monotonic()
        self._last = made
        late = time.monotonic() - self._logged >= LOG_SECONDS
        if not self._console.is_terminal and (late or made.step == made.steps):
            self._print()

    def _line(self) -> str:
        if self._last is not None and self._last.step < self._last.steps:
            return line(self._last)
        phase = PREPARING if self._last is None else FINISHING
        return f"{phase} ({clock(time.monotonic() - self._since)})"

    def _print(self) -> None:
        self._logged = time.monotonic()
        self._console.print(self._line())

    def _log(self) -> None:
        while not self._closed.wait(LOG_SECONDS / 10):
            if time.monotonic() - self._logged >= LOG_SECONDS:
                self._print()

    def reached(self) -> str:
        """The step that is reached; training continues from the checkpoint before."""
        if self._last is None:
            return "before the first step"
        return f"after step {self._last.step} of {self._last.steps}, its checkpoints kept"


def line(made: progress.Progress) -> str:
    """How far a training is, in one line."""
    left = clock(made.seconds_left)
    return f"step {made.step}/{made.steps}  {made.seconds:.2f} s/step  {left} left"
