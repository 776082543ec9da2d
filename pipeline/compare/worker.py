"""Readings on Ray: a task each, with the resources of an actor, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ray

from pipeline.cluster.config import Cluster
from pipeline.cluster.connection import connected
from pipeline.compare.readings import ReadingTask
from pipeline.errors import RunError


def read_all(tasks: Sequence[ReadingTask], cluster: Cluster, note: Callable[[str], None]) -> None:
    """Make the readings that are missing, as many at a time as the cluster has actors. Raises
    ModelError, and RunError where a worker dies again and again."""
    missing = [task for task in tasks if not task.finished()]
    if not missing:
        return
    with connected(cluster):
        run = ray.remote(
            num_cpus=cluster.cpus_per_actor, num_gpus=cluster.gpus_per_actor, max_retries=3
        )(_read)
        reading: dict[ray.ObjectRef[None], ReadingTask] = {}
        for task in missing:
            if len(reading) == cluster.actors.max:
                _await_one(reading)
            note(f"{task.name}: reading its responses")
            reading[run.remote(task, max(1, int(cluster.cpus_per_actor)))] = task
        while reading:
            _await_one(reading)


def _await_one(reading: dict[ray.ObjectRef[None], ReadingTask]) -> None:
    """Wait until one of these is made, and take it out. Raises as `read_all` does."""
    (made,), _ = ray.wait(list(reading))
    task = reading.pop(made)
    try:
        ray.get(made)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise RunError(f"{task.name}: the worker that read its responses died") from error


def _read(task: ReadingTask, threads: int) -> None:
    # Only workers load torch.
    import torch  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    from pipeline.compare.reader import read_arm  # noqa: PLC0415

    torch.set_num_threads(threads)
    logging.disable_progress_bar()
    read_arm(task)
