"""Checkpoints of transformers' Trainer: when one is due, and what becomes of it.

A checkpoint is measured as it would be delivered and handed to Ray Train, which copies it into the
run folder.
"""

from __future__ import annotations

import json
import shutil
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import ray.train
from ray.train import Checkpoint
from transformers import TrainerCallback

from pipeline.errors import ResumeError
from pipeline.store.failpoints import failpoint
from pipeline.store.files import MALFORMED, Folder
from pipeline.training.checksums import check_files, damaged, write_checksums
from pipeline.training.cost import COST, Meter
from pipeline.training.disk import require_room
from pipeline.training.folder import HISTORY, PROVENANCE
from pipeline.training.group import sum_over_workers
from pipeline.training.history import write_history
from pipeline.training.progress import Progress, write_progress

LOCAL_SECONDS, REMOTE_SECONDS = 2.0, 20.0


@dataclass
class History:
    """What `history.json` holds: what the model is made of, and all measurements."""

    description: dict[str, Any]
    baseline: dict[str, Any]
    measurements: list[dict[str, Any]] = field(default_factory=list)

    def write(self, folder: Folder) -> None:
        """Write it into the run folder."""
        write_history(folder, asdict(self))


class TrainerCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Says when a checkpoint is due, measures it and reports it to Ray Train. `meter` counts what
    the training costs.

    Every worker reports: Ray Train holds all of them until the last one does. The files of the
    first worker are the checkpoint; the others add the states of their random generators.
    """

    def __init__(
        self,
        run_dir: str,
        every: int,
        output: Path,
        history: History,
        provenance: Mapping[str, str],
        *,
        job: str,
        held_out: bool,
        rank: int,
    ) -> None:
        """`every` so many steps a checkpoint is made; `output` is the Trainer's own folder. `job`
        is the name of the failpoints. `held_out`: the Trainer has rows to evaluate on."""
        self._every = every
        self._output = output
        self._history = history
        self._provenance = dict(provenance)
        self._job = job
        self._held_out = held_out
        self._rank = rank
        self._held_out_loss: float | None = None
        self._train_loss: float | None = None
        self._began = self._shown = 0.0
        self._first = 0
        self._folder = Folder(run_dir)
        self.meter = Meter()
        if history.measurements:
            self.meter.resume(history.measurements[-1])
            if rank:  # of all workers: it is added up again
                self.meter.steps = self.meter.measurements = 0.0

    @abstractmethod
    def measure(self, checkpoint: Path, step: int) -> dict[str, Any]:
        """Write the model of a checkpoint as it would be delivered to `checkpoint / MODEL`, and
        measure it. The figures hold `step` and `selection_score`; the highest is delivered."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._began, self._first = time.monotonic(), state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        step = state.global_step
        due = step % self._every == 0 or step == state.max_steps
        control.should_save = due
        control.should_evaluate = due and self._held_out
        control.should_log = control.should_log or due
        if self._rank == 0:
            self._show(step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._train_loss = (more.get("logs") or {}).get("loss", self._train_loss)

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._held_out_loss = (more.get("metrics") or {}).get("eval_loss")

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        step = state.global_step
        path = self._output / f"checkpoint-{step}"
        metrics: dict[str, Any] = {}
        if self._rank == 0:
            (path / PROVENANCE).write_text(json.dumps(self._provenance))
            metrics = self.measure(path, step)
        self._add_up(metrics)
        if self._rank == 0:
            self._history.measurements.append(metrics)
            (path / HISTORY).write_text(json.dumps(asdict(self._history)))
            write_checksums(path)
            require_room(self._folder, path)
            # Besides the checkpoint: the driver shows the measurements while training goes on.
            self._history.write(self._folder)
        ray.train.report(metrics, checkpoint=Checkpoint.from_directory(str(path)))
        shutil.rmtree(path)  # Ray Train has copied it
        failpoint(f"{self._job} step {step}.")

    def _add_up(self, metrics: dict[str, Any]) -> None:
        """Add what the training has cost so far, over all workers, to the first one's metrics."""
        own = [self.meter.steps, self.meter.measurements]
        steps, measurements = sum_over_workers(own)
        if self._rank == 0:
            total = replace(self.meter, steps=steps, measurements=measurements)
            metrics[COST] = total.spent()

    def _show(self, step: int, steps: int) -> None:
        now = time.monotonic()
        pause = LOCAL_SECONDS if self._folder.local else REMOTE_SECONDS
        if step < steps and now - self._shown < pause:
            return
        self._shown = now
        seconds = (now - self._began) / (step - self._first)
        write_progress(self._folder, Progress(step=step, steps=steps, seconds=seconds))


def resume_history(path: Path, provenance: Mapping[str, str]) -> History:
    """The history in a checkpoint. Raises ResumeError where base or data have changed since: the
    rows of a step are drawn from the data, and adapters fit only the weights that they were
    trained on. Raises DamagedError naming the file."""
    check_files(path)
    try:
        saved = dict(json.loads((path / PROVENANCE).read_bytes()))
        history = History(**json.loads((path / HISTORY).read_bytes()))
        step = history.measurements[-1]["step"]
    except (*MALFORMED, OSError) as error:
        raise damaged(path, type(error).__name__) from error
    changed = sorted(
        name for name in saved.keys() | provenance.keys() if saved.get(name) != provenance.get(name)
    )
    if changed:
        raise ResumeError(
            f"{' and '.join(changed)}: not what it was at step {step}, from which training would "
            "continue; another run_dir starts from the beginning"
        )
    return history
