"""A worker of guide training, as Ray Train starts it: a state from its last checkpoint on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed
from ray.train import Checkpoint
from ray.train.torch import get_device

from nabla_core.errors import NablaError
from pipeline.errors import PipelineError
from pipeline.store.failpoints import failpoint
from pipeline.store.files import Folder
from pipeline.train_guide import failure as final_error
from pipeline.train_guide.checkpoints import load_checkpoint, save_checkpoint
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.evaluation import reference
from pipeline.train_guide.training import TrainingState, setup, train_step


def work(config: TrainGuideConfig) -> None:
    """What every worker does. An error that training again would repeat ends it for good: it is
    left in the run folder, where workers that Ray Train starts once more find it."""
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    folder = Folder(config.run_dir)
    state = None if final_error.is_left(folder) else _begun(config, folder)
    if not _by_all(state is not None, world) or state is None:
        return
    try:
        _train(state, rank, world)
    except (NablaError, PipelineError) as error:
        final_error.leave(folder, error)
        if world > 1:  # the others may wait for this one, without end
            raise


def _begun(config: TrainGuideConfig, folder: Folder) -> TrainingState | None:
    """Models and data; None where they do not go together."""
    try:
        return setup(config, str(get_device()))
    except (NablaError, PipelineError) as error:
        final_error.leave(folder, error)
        return None


def _by_all(done: bool, world: int) -> bool:
    """Whether all workers have done it. Each is told, so none waits for one that has ended, nor
    is any started once more."""
    if world == 1:
        return done
    told = torch.tensor(float(done), device=get_device())
    torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MIN)
    return bool(told)


def _train(state: TrainingState, rank: int, world: int) -> None:
    config = state.config
    before: dict[str, Any] = {"judge_gradient": None}
    checkpoint = ray.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as path:
            before = load_checkpoint(state, Path(path))
    elif rank == 0:
        judge = reference(state)
        before["judge_gradient"] = judge.as_dict() if judge else None
    while state.step < config.optimise.steps:
        lost = train_step(state, rank, world)
        if state.step % config.validation.every and state.step != config.optimise.steps:
            continue
        metrics: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as path:
            mine = None
            if rank == 0:
                metrics = save_checkpoint(state, lost, Path(path), before)
                mine = Checkpoint.from_directory(path)
            ray.train.report(metrics, checkpoint=mine)
        failpoint(f"guide step {state.step}.")
