"""A worker of guide training as Ray Train starts it: the loop of steps and checkpoints."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ray.train
from ray.train import Checkpoint
from ray.train.torch import get_device

from nabla_core.errors import NablaError
from pipeline.errors import PipelineError
from pipeline.store.checks.models_check import read_models, require_same
from pipeline.store.failpoints import failpoint
from pipeline.store.files import Folder
from pipeline.train_guide.checkpoints import load_checkpoint, publish_history, save_checkpoint
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.evaluation import judge_agreement
from pipeline.train_guide.setup import setup
from pipeline.train_guide.state import TrainingState
from pipeline.train_guide.training import train_step
from pipeline.training.disk import full_disk_named, require_room
from pipeline.training.failure import has_failed, write_failure
from pipeline.training.group import agree_on_models, all_workers, use_cpus
from pipeline.training.progress import ProgressFile


def work(config: TrainGuideConfig) -> None:
    """The function that every worker runs.

    An error of ours would repeat in every attempt. It is stored in the run folder and the worker
    returns: for a worker that raises, Ray Train would start all of them again.
    """
    use_cpus(config.workers.cpus)
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    folder = Folder(config.run_dir)
    # A stored error means that Ray Train has started this worker again: it would only repeat.
    state = None if has_failed(folder) else _setup(config, folder)
    if not all_workers(state is not None, world, get_device()) or state is None:
        return
    try:
        with full_disk_named(folder):
            agree_on_models(state.models, folder, rank, world)
            _train(state, rank, world)
    except (NablaError, PipelineError) as error:
        write_failure(folder, error)
        if world > 1:  # the others may wait for this worker in an all_reduce, for ever
            raise


def _setup(config: TrainGuideConfig, folder: Folder) -> TrainingState | None:
    """The state to start with; None where it cannot be set up."""
    try:
        with full_disk_named(folder):
            state = setup(config, str(get_device()))
        require_same(folder, read_models(folder), state.models)
        return state
    except (NablaError, PipelineError) as error:
        write_failure(folder, error)
        return None


def _train(state: TrainingState, rank: int, world: int) -> None:
    config = state.config
    baseline: dict[str, Any] = {"judge_gradient": None}
    checkpoint = ray.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as path:
            baseline = load_checkpoint(state, Path(path))
        if rank == 0:
            # The file may be damaged, or of a later step that was lost with its checkpoint.
            publish_history(state, baseline)
    elif rank == 0:  # one measurement, and the other workers wait in the first all_reduce
        judge = judge_agreement(state)
        baseline["judge_gradient"] = judge.as_dict() if judge else None
    steps = config.optimise.steps
    progress = ProgressFile(Folder(config.run_dir), state.step, steps)
    while state.step < steps:
        loss = train_step(state, rank, world)
        if rank == 0:
            progress.took(state.step)
        if state.step % config.validation.every and state.step != steps:
            continue
        metrics: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as path:
            saved = None  # Ray Train copies the checkpoint into the run folder
            if rank == 0:
                metrics = save_checkpoint(state, loss, Path(path), baseline)
                require_room(Folder(config.run_dir), Path(path))
                saved = Checkpoint.from_directory(path)
            # Every worker must report: Ray Train holds all of them here until the last one does.
            ray.train.report(metrics, checkpoint=saved)
        failpoint(f"guide step {state.step}.")
