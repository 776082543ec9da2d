"""`jobs.train_guide`: guide training as Ray Train workers, with checkpoints and resume.

    run_dir/config.yaml   the resolved config     run_dir/train/   Ray Train's checkpoints
    run_dir/history.json  every measurement       run_dir/guide/   the model, `card.json` last

Imports ray. The same command goes on from the last checkpoint.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device

from nabla_core.errors import ModelError, NablaError
from nabla_core.guides.trainees import scaled
from nabla_core.models import identify
from pipeline import config_check, crash, manifest
from pipeline.adapters import adapted, merged, require
from pipeline.cluster import Actors, Cluster, connected
from pipeline.config import to_dict
from pipeline.errors import ConfigError, InputError, PipelineError, RunError, StoreError
from pipeline.files import Folder
from pipeline.guide_config import SHAPING, TrainGuideConfig
from pipeline.guide_training import Course, advance, begin, calibration, measure, reference

CARD, HISTORY, FAILED = "guide/card.json", "history.json", "failed.json"
MODEL, STATE = "model", "state.pt"
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

    Raises PipelineError, ModelError.
    """
    require(config.optimise.lora)
    settings = to_dict(config)
    try:
        folder = Folder(config.run_dir)
        config_check.enter(folder, settings, SHAPING)
        if folder.exists(CARD):
            return Trained(json.loads(folder.read(CARD)), True)
        if folder.exists(FAILED):
            folder.delete(FAILED)
    except (OSError, ValueError, ImportError) as error:
        raise StoreError(f"run folder {config.run_dir}: {error}") from error
    workers = config.workers
    place = Cluster(
        address=workers.address,
        actors=Actors(workers.count, workers.count),
        cpus_per_actor=workers.cpus,
    )
    local = "://" not in config.run_dir
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
                storage_path=os.path.abspath(config.run_dir) if local else config.run_dir,
                worker_runtime_env={"env_vars": crash.carried()},
                failure_config=FailureConfig(max_failures=workers.max_failures),
                checkpoint_config=CheckpointConfig(
                    num_to_keep=2,
                    checkpoint_score_attribute="chosen_by",
                    checkpoint_score_order="max",
                ),
            ),
        )
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise RunError(f"training failed: {error}") from error
    if folder.exists(FAILED):
        told = json.loads(folder.read(FAILED))
        raise ERRORS.get(told["kind"], RunError)(told["message"])
    return Trained(_deliver(folder, config, result), False)


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
    """What every worker does. An error that training again would repeat ends it for good."""
    config: TrainGuideConfig = given["config"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    try:
        course = begin(config, str(get_device()))
        _train(course, rank, world)
    except (NablaError, PipelineError) as error:
        if rank == 0:
            kinds = [name for name, known in ERRORS.items() if isinstance(error, known)]
            told = {"kind": (kinds or ["RunError"])[0], "message": str(error)}
            Folder(config.run_dir).write(FAILED, json.dumps(told).encode())


def _train(course: Course, rank: int, world: int) -> None:
    config = course.config
    before: dict[str, Any] = {"judge_gradient": None}
    checkpoint = ray.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as path:
            before = _restore(course, Path(path))
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
                metrics = _measure_and_keep(course, lost, Path(path), before)
                mine = Checkpoint.from_directory(path)
            ray.train.report(metrics, checkpoint=mine)
        crash.point(f"guide step {course.step}.")


def _measure_and_keep(
    course: Course, lost: float, path: Path, before: dict[str, Any]
) -> dict[str, Any]:
    """A checkpoint: the guide as it would be delivered, and what training needs to go on."""
    with merged(course.trainee), scaled(course.trainee, factor := calibration(course)):
        metrics = {**measure(course), "loss": lost, "calibration": factor}
        course.trainee.model.save_pretrained(path / MODEL)
    course.tokenizer.save_pretrained(path / MODEL)
    print(f"guide {metrics}", flush=True)
    course.history.append(metrics)
    state = {
        "step": course.step,
        "started_as": _start(course),
        "learned": {name: p.detach() for name, p in _learned(course)},
        "optimizer": course.optimizer.state_dict(),
        "history": course.history,
        "skipped": course.skipped,
        "before": before,
    }
    torch.save(state, path / STATE)
    told = {
        "about": _about(course),
        "measured": course.history,
        "skipped": course.skipped,
        **before,
    }
    Folder(course.config.run_dir).write(HISTORY, json.dumps(told, indent=2).encode())
    return metrics


def _restore(course: Course, path: Path) -> dict[str, Any]:
    state = torch.load(path / STATE, map_location=course.trainee.model.device, weights_only=True)
    if state["started_as"] != _start(course):
        raise RunError(
            f"start.path {state['started_as']['name']} is another model now than at step "
            f"{state['step']}, from which training would go on"
        )
    with torch.no_grad():
        for name, parameter in _learned(course):
            parameter.copy_(state["learned"][name])
    course.optimizer.load_state_dict(state["optimizer"])
    course.step, course.history = state["step"], state["history"]
    course.skipped = state["skipped"]
    before: dict[str, Any] = state["before"]
    return before


def _learned(course: Course) -> list[tuple[str, Any]]:
    """The parameters that training changes; all others are those of `start.path`."""
    named = course.trainee.model.named_parameters()
    return [(name, parameter) for name, parameter in named if parameter.requires_grad]


def _start(course: Course) -> dict[str, str]:
    """Which model training started from."""
    config = course.trainee.model.config
    return asdict(identify(config.name_or_path, getattr(config, "_commit_hash", None)))


def _about(course: Course) -> dict[str, Any]:
    """What the card says of models and data."""
    lora = course.config.optimise.lora
    return {
        "weights": {
            "learned": sum(p.numel() for _, p in _learned(course)),
            "method": f"LoRA of rank {lora.rank}, merged" if lora.rank else "full",
            "adapted_layers": len(adapted(course.trainee.model)),
        },
        "lm": asdict(course.lm.identity),
        "judge": asdict(course.judge.rm.identity),
        "data": {
            "sources": course.mixture.sources,
            "left_out": dict(course.mixture.left_out),
            "responses": len(course.train),
            "held_out": len(course.held_out),
            "counterfactuals": sum(
                len(place.tokens) - 1 for e in course.train for place in e.places
            ),
        },
    }
