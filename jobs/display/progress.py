"""The progress of a run, on a terminal or in a log."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from types import TracebackType

from rich.live import Live
from rich.text import Text

from jobs.display import console
from pipeline.durations import clock
from pipeline.printable import visible
from pipeline.run.prompt_status import ENDED, PromptState, PromptStatus

LOG_SECONDS = 10.0
# Of fewer rows the accuracy is chance.
MIN_ROWS = 20
RUNNING = "running"


class Progress:
    """A `pipeline.run.plan.Watcher`: one live line on a terminal, a line every `LOG_SECONDS`
    in a log, also while no row ends.

    The count includes rows that were committed before; rate, time left, acceptance and gains
    are of the rows that this process made.
    """

    def __init__(self) -> None:
        self._console = console.unstyled(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._states: Counter[PromptState] = Counter()
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._total = self._before = 0
        self._phase = "starting"
        # When the rows of the present phase began: the time to load models is no part of the rate.
        self._first: float | None = None
        self._closed = threading.Event()

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        else:
            threading.Thread(target=self._log, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the live line, or print no further line."""
        self._closed.set()
        self._live.stop()

    def started(self, total: int, finished: int, dead: int) -> None:
        self._total, self._before = total, finished + dead
        resumed = f", {self._before} of them committed before" if self._before else ""
        self._console.print(f"{total} rows{resumed}")

    def phase(self, text: str) -> None:
        self._phase = text
        self._show()

    def note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def on_status(self, status: PromptStatus) -> None:
        self._first = self._first or time.monotonic()
        self._states[status.state] += 1
        if status.state is PromptState.DONE:
            for name, value in json.loads(status.detail).items():
                self._sums[name] += value
        elif status.state is PromptState.DEAD:
            name, reason = visible(status.key[0]), visible(status.detail)
            self._console.print(f"dead letter {name}#{status.key[1]}: {reason}")
        self._show()

    @property
    def total(self) -> int:
        """Rows of the whole run; 0 before they are known."""
        return self._total

    def committed(self) -> str:
        """How many rows are committed, as far as workers have said."""
        ended = sum(self._states[state] for state in ENDED)
        return f"{self._before + ended} of {self._total} rows committed"

    def line(self) -> str:
        """The state of the run in one line."""
        done, dead = self._states[PromptState.DONE], self._states[PromptState.DEAD]
        ended = sum(self._states[state] for state in ENDED)
        # Models are loaded first, which takes minutes for large ones, and no worker says when.
        waits = self._phase == RUNNING and self._first is None
        phase = "waiting for the first row (models load first)" if waits else self._phase
        parts = [phase, f"{self._before + ended}/{self._total}"]
        if self._first is not None and done > 1:
            rate = ended / max(time.monotonic() - self._first, 1e-9)
            left = (self._total - self._before - ended) / rate
            # A large model makes a row in minutes.
            shown = f"{rate:.1f} rows/s" if rate >= 1 else f"{60 * rate:.1f} rows/min"
            parts += [shown, f"{clock(left)} left"]
        if self._sums["proposed"]:
            parts.append(f"accepted {self._sums['accepted'] / self._sums['proposed']:.0%}")
        if done and "reward" in self._sums:
            gain = (self._sums["reward"] - self._sums["base_reward"]) / done
            # Without a first response to improve on there is no gain to show.
            mean = self._sums["reward"] / done
            parts.append(f"reward gain {gain:+.3f}" if gain else f"reward {mean:.3f}")
        if done >= MIN_ROWS and "correct" in self._sums:
            before, after = self._sums["base_correct"] / done, self._sums["correct"] / done
            parts.append(
                f"accuracy {before:.3f} -> {after:.3f}"
                if before != after
                else f"accuracy {after:.3f}"
            )
        if dead:
            parts.append(f"{dead} dead")
        return "  ".join(parts)

    def _show(self) -> None:
        if self._console.is_terminal:
            self._live.update(Text(console.clean(self.line())))

    def _log(self) -> None:
        while not self._closed.wait(LOG_SECONDS):
            # Parts of a job without rows have lines of their own.
            if self._total:
                self._console.print(self.line())
