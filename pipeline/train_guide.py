"""`jobs.train_guide`: guide training as Ray Train workers, with checkpoints and resume.

    run_dir/config.yaml   the resolved config     run_dir/train/   Ray Train's checkpoints
    run_dir/history.json  every measurement       run_dir/guide/   the model, `card.json` last

Imports ray. The same command goes on from the last checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device

from nabla_core.errors import ModelError, NablaError
from pipeline import config_check, crash, manifest
from pipeline.adapters import require
from pipeline.cluster import Actors, Cluster, connected
from pipeline.config import to_dict
from pipeline.counterfactual_reader import look
from pipeline.errors import ConfigError, InputError, PipelineError, RunError, StoreError
from pipeline.files import FULL, Folder
from pipeline.guide_checkpoints import HISTORY, MODEL, keep, restore
from pipeline.guide_config import SHAPING, TrainGuideConfig
from pipeline.guide_measuring import reference
from pipeline.guide_training import Course, advance, begin
from pipeline.lease import held
from pipeline.prompts import read as read_prompts

CARD, FAILED = "guide/card.json", "failed.json"
ERRORS: dict[str, type[Exception]] = {
    e.__name__: e for e in (ModelError, ConfigError, InputError, StoreError, RunError)
}


@dataclass(frozen=True)
class Trained:
    """The card of a guide, and whether it was there already."""

    card: dict[str, Any]
    already: bool


def train_guide(config: TrainGuideConfig) -> Trained:
    """Train a guide, or go on training it, and leave it in `<run_dir>/guide`.

    One driver a run folder (LeaseError). Raises PipelineError, ModelError; KeyboardInterrupt
    leaves a folder to resume.
    """
    require(config.optimise.lora)
    try:
        folder = Folder(config.run_dir)
    except (OSError, ValueError, ImportError) as error:
        raise StoreError(f"run folder {config.run_dir}: {error}") from error
    try:
        with held(folder, config.workers.lease_seconds):
            made = folder.exists(CARD)
            if not made:
                # Before the config is written: after a mistyped path the folder is still free.
                look(config.data)
                next(iter(read_prompts(config.validation.prompts)))
            config_check.enter(folder, to_dict(config), SHAPING)
            if made:
                return Trained(json.loads(folder.read(CARD)), True)
            if folder.exists(FAILED):
                folder.delete(FAILED)
            return Trained(_deliver(folder, config, _fit(folder, config)), False)
    except OSError as error:
        kind = RunError if error.errno in FULL else StoreError
        raise kind(f"run folder {config.run_dir}: {error}") from error


def _fit(folder: Folder, config: TrainGuideConfig) -> Any:
    """What Ray Train makes of it. Raises what its workers have failed with."""
    workers = config.workers
    # Ray Train would move its workers to a folder of its own, where relative paths lead nowhere.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    place = Cluster(
        address=workers.address,
        actors=Actors(workers.count, workers.count),
        cpus_per_actor=workers.cpus,
    )
    with connected(place):
        trainer = TorchTrainer(
            _work,
            train_loop_config={"config": config},
            scaling_config=ScalingConfig(
                num_workers=workers.count,
                use_gpu=workers.gpu,
                resources_per_worker={"CPU": workers.cpus, **({"GPU": 1} if workers.gpu else {})},
            ),
            run_config=RunConfig(
                name="train",
                storage_path=folder.root if folder.local else config.run_dir,
                # Ray Train would tell what workers print twice.
                worker_runtime_env={
                    "env_vars": {"RAY_TRAIN_ENABLE_PRINT_PATCH": "0", **crash.carried()}
                },
                failure_config=FailureConfig(max_failures=workers.max_failures),
                checkpoint_config=CheckpointConfig(
                    num_to_keep=2,
                    checkpoint_score_attribute="chosen_by",
                    checkpoint_score_order="max",
                ),
            ),
        )
        interrupt = signal.getsignal(signal.SIGINT)
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            _told(folder)
            raise RunError(f"training failed: {error}") from error
        except SystemExit as ended:  # Ray Train's answer to an interrupt
            raise KeyboardInterrupt from ended
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, interrupt)
    _told(folder)
    return result


def _told(folder: Folder) -> None:
    """Raise what a worker has left of an error that training again would repeat."""
    if folder.exists(FAILED):
        told = json.loads(folder.read(FAILED))
        raise ERRORS.get(told["kind"], RunError)(told["message"])


def _deliver(folder: Folder, config: TrainGuideConfig, result: Any) -> dict[str, Any]:
    """The best checkpoint's model becomes the guide; its card is written last."""
    history = json.loads(folder.read(HISTORY))
    best, metrics = max(result.best_checkpoints, key=lambda pair: pair[1]["chosen_by"])
    with best.as_directory() as path:
        for file in sorted(Path(path, MODEL).iterdir()):
            folder.write(f"guide/{file.name}", file.read_bytes())
    card = {
        "kind": config.kind,
        "started_as": config.start.path,
        **history["about"],
        "config_hash": config_check.digest(config_check.shaping(to_dict(config), SHAPING)),
        "target": asdict(config.target),
        "optimise": asdict(config.optimise),
        "seed": config.seed,
        "workers": config.workers.count,
        "chosen_step": metrics["step"],
        "chosen_by": config.validation.measure,
        "ranked": asdict(config.validation.nabla.ranked),
        "metrics": next(m for m in history["measured"] if m["step"] == metrics["step"]),
        "judge_gradient": history["judge_gradient"],
        "skipped_steps": history["skipped"],
        "commit": manifest.commit(),
        "versions": manifest.versions(),
    }
    folder.write(CARD, json.dumps(card, indent=2, ensure_ascii=False).encode())
    return card


def _work(given: Mapping[str, Any]) -> None:
    """What every worker does. An error that training again would repeat ends it for good: it is
    left in the run folder, where workers that Ray Train starts once more find it."""
    config: TrainGuideConfig = given["config"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    folder = Folder(config.run_dir)
    if folder.exists(FAILED):
        return
    try:
        course = begin(config, str(get_device()))
        _train(course, rank, world)
    except (NablaError, PipelineError) as error:
        kinds = [name for name, known in ERRORS.items() if isinstance(error, known)]
        told = {"kind": (kinds or ["RunError"])[0], "message": str(error)}
        folder.write(FAILED, json.dumps(told).encode())
        if world > 1:  # the others may wait for this one, without end
            raise


def _train(course: Course, rank: int, world: int) -> None:
    config = course.config
    before: dict[str, Any] = {"judge_gradient": None}
    checkpoint = ray.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as path:
            before = restore(course, Path(path))
    elif rank == 0:
        judge = reference(course)
        before["judge_gradient"] = judge.as_dict() if judge else None
        if judge:
            print(f"judge's own gradient: {judge.as_dict()}", flush=True)
    while course.step < config.optimise.steps:
        lost = advance(course, rank, world)
        if course.step % config.validation.every and course.step != config.optimise.steps:
            continue
        metrics: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as path:
            mine = None
            if rank == 0:
                metrics = keep(course, lost, Path(path), before)
                mine = Checkpoint.from_directory(path)
            ray.train.report(metrics, checkpoint=mine)
        crash.point(f"guide step {course.step}.")
