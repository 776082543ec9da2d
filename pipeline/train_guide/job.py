"""`jobs.train_guide`: guide training as Ray Train workers, with checkpoints and resume.

Imports ray, and no torch of its own: models are the workers' (`guide_worker`). The same command
goes on from the last checkpoint.
"""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.train
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from nabla_core.guide_training.settings import Optimise
from pipeline.errors import RunError
from pipeline.extras import require_for_lora
from pipeline.inputs.prompts import read as read_prompts
from pipeline.run.cluster import connected, require_resources
from pipeline.run.cluster_config import Actors, Cluster
from pipeline.store import config_check, manifest
from pipeline.store.failpoints import failpoint_environment
from pipeline.store.files import Folder
from pipeline.store.lease import held
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.train_guide import failure as final_error
from pipeline.train_guide.config import TrainGuideConfig, Validation
from pipeline.train_guide.data import look
from pipeline.train_guide.folder import CARD, HISTORY, MODEL
from pipeline.train_guide.progress import Tell, followed


@dataclass(frozen=True)
class Trained:
    """The card of a guide, and whether it was there already."""

    card: dict[str, Any]
    already_complete: bool


def train_guide(config: TrainGuideConfig, tell: Tell) -> Trained:
    """Train a guide, or go on training it, and leave it in `<run_dir>/guide`; `tell` gets every
    measurement as it is made.

    One driver a run folder (LeaseError). Raises PipelineError, ModelError; KeyboardInterrupt
    leaves a folder to resume.
    """
    folder = open_folder(config.run_dir)
    with translate_os_errors(config.run_dir), held(folder, config.workers.lease_seconds):
        made = folder.exists(CARD)
        if not made:
            # Before the config is written: after a mistyped path the folder is still free.
            look(config.data)
            ready(config.optimise, config.validation)
        config_check.enter(folder, config)
        if made:
            return Trained(json.loads(folder.read(CARD)), True)
        final_error.forget(folder)
        return Trained(_deliver(folder, config, _fit(folder, config, tell)), False)


def ready(optimise: Optimise, validation: Validation) -> None:
    """Raises ConfigError or InputError where workers would find a package or the prompts
    missing, but only after they have loaded models."""
    require_for_lora(optimise.lora)
    next(iter(read_prompts(validation.prompts)))


def _fit(folder: Folder, config: TrainGuideConfig, tell: Tell) -> Any:
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
        if not place.ray_address:
            count = workers.count
            told = f"workers.count={count}"
            require_resources(told, count * workers.cpus, count * float(workers.gpu))
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
                storage_path=folder.root,
                storage_filesystem=None if folder.local else folder.fs,
                worker_runtime_env={"env_vars": failpoint_environment()},
                failure_config=FailureConfig(
                    max_failures=workers.max_failures,
                    # Ray Train looks for a place for a minute, then counts a failure.
                    controller_failure_limit=math.ceil(workers.scheduling_timeout_s / 60),
                ),
                checkpoint_config=CheckpointConfig(
                    num_to_keep=2,
                    checkpoint_score_attribute="chosen_by",
                    checkpoint_score_order="max",
                ),
            ),
        )
        interrupt = signal.getsignal(signal.SIGINT)
        try:
            with followed(folder, tell):
                result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            final_error.raise_left(folder)
            raise RunError(f"training failed: {error}") from error
        except SystemExit as ended:  # Ray Train's answer to an interrupt
            raise KeyboardInterrupt from ended
        finally:
            signal.signal(signal.SIGINT, interrupt)
    final_error.raise_left(folder)
    return result


def _deliver(folder: Folder, config: TrainGuideConfig, result: Any) -> dict[str, Any]:
    """The best checkpoint's model becomes the guide; its card is written last."""
    history = json.loads(folder.read(HISTORY))
    best, metrics = max(result.best_checkpoints, key=lambda pair: pair[1]["chosen_by"])
    with best.as_directory() as path:
        model = Path(path, MODEL)
        # A tokenizer may have a folder of chat templates.
        for file in sorted(found for found in model.rglob("*") if found.is_file()):
            folder.write(f"guide/{file.relative_to(model).as_posix()}", file.read_bytes())
    card = {
        "kind": config.kind,
        "started_as": config.start.path,
        **history["about"],
        "config_hash": config_check.digest(config),
        "target": asdict(config.target),
        "optimise": asdict(config.optimise),
        "seed": config.seed,
        "workers": config.workers.count,
        "chosen_step": metrics["step"],
        "chosen_by": config.validation.metric,
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
    from pipeline.train_guide.worker import work  # noqa: PLC0415 - transformers: in workers alone

    work(given["config"])
