"""A worker of transformers' Trainer as Ray Train starts it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import datasets
import ray.train
import transformers
from ray.train.torch import get_device

from nabla_core.errors import NablaError
from nabla_core.types import Identity
from pipeline.errors import PipelineError
from pipeline.store.files import Folder
from pipeline.store.run_folder import translate_os_errors
from pipeline.training.disk import full_disk_named
from pipeline.training.failure import has_failed, write_failure
from pipeline.training.folder import LOGS
from pipeline.training.group import agree_on_models, all_workers, use_cpus


class Ready(Protocol):
    """What a worker has before the first step: models by role, and transformers' Trainer."""

    @property
    def models(self) -> Mapping[str, Identity]: ...

    @property
    def trainer(self) -> Any: ...


# (a folder for files, the last checkpoint, the worker's rank) -> what it trains with.
Setup = Callable[[Path, Path | None, int], Ready]


def train(run_dir: str, job: str, report_to: Sequence[str], setup: Setup, *, cpus: float) -> None:
    """Set up and train, in every worker, on the CPUs that it was given.

    An error of ours would repeat in every attempt. It is stored in the run folder and the worker
    returns: for a worker that raises, Ray Train would start all of them again.
    """
    use_cpus(cpus)
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    folder = Folder(run_dir)
    _quiet(folder, report_to)
    with tempfile.TemporaryDirectory(prefix=f"nabla-{job}-") as scratch, _checkpoint() as saved:
        # A stored error means that Ray Train has started this worker again: it would only repeat.
        ready = None
        if not has_failed(folder):
            ready = _storing(folder, lambda: setup(Path(scratch), saved, rank))
        if not all_workers(ready is not None, world, get_device()) or ready is None:
            return
        try:
            with translate_os_errors(run_dir), full_disk_named(folder):
                agree_on_models(ready.models, folder, rank, world)
                ready.trainer.train(resume_from_checkpoint=str(saved) if saved else None)
        except (NablaError, PipelineError) as error:
            write_failure(folder, error)
            if world > 1:  # the others may wait for this worker in an all_reduce, for ever
                raise


def _storing(folder: Folder, make: Callable[[], Ready]) -> Ready | None:
    """What `make` returns; None where it raises, after the error is stored in the run folder."""
    try:
        return make()
    except (NablaError, PipelineError) as error:
        write_failure(folder, error)
        return None


@contextmanager
def _checkpoint() -> Iterator[Path | None]:
    """The files of the last checkpoint, None where there is none."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as path:
        yield Path(path)


def _quiet(folder: Folder, report_to: Sequence[str]) -> None:
    """No progress bars in the logs of workers, and TensorBoard's files in the run folder."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    if "tensorboard" in report_to and folder.local:
        os.environ["TENSORBOARD_LOGGING_DIR"] = folder.path(LOGS)
