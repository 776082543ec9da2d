"""The driver of `jobs.train_guide`: starts the workers and stores the guide.

Imports ray but not torch: models are loaded by workers (`train_guide.worker`). The same command
continues from the last checkpoint.
"""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from nabla_core.guide_training.settings import Optimise
from pipeline.errors import RunError
from pipeline.extras import require_for_lora
from pipeline.grading.graders import check_expected
from pipeline.inputs.prompts import read as read_prompts
from pipeline.run.cluster import connected, require_resources
from pipeline.run.cluster_config import Actors, Cluster
from pipeline.run.models import visible
from pipeline.run.working_dir import enter_working_dir
from pipeline.store.checks import config_check, models_check
from pipeline.store.checks.owner import Owner, check_owner
from pipeline.store.failpoints import failpoint_environment
from pipeline.store.files import Folder
from pipeline.store.lease import hold_lease
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.train_guide.card import make_card, read_card, write_card
from pipeline.train_guide.config import TrainGuideConfig, Validation
from pipeline.train_guide.data import check_folders
from pipeline.train_guide.failure import clear_failure, raise_failure
from pipeline.train_guide.folder import CARD, HISTORY, MODEL
from pipeline.train_guide.models import sources
from pipeline.train_guide.progress import OnMeasurement, followed

OWNER = Owner("train-guide")


@dataclass(frozen=True)
class TrainGuideResult:
    """The card of a guide. `already_complete`: an earlier run had finished it."""

    card: dict[str, Any]
    already_complete: bool


def train_guide(config: TrainGuideConfig, on_measurement: OnMeasurement) -> TrainGuideResult:
    """Train a guide, or continue its training, and write it to `<run_dir>/guide`.

    `on_measurement` is called with each measurement. A run folder has one driver at a time
    (LeaseError). Raises PipelineError and ModelError. After KeyboardInterrupt the folder can be
    resumed.
    """
    folder = open_folder(config.run_dir)
    with translate_os_errors(config.run_dir):
        check_owner(folder, OWNER)  # before the lease writes into the folder
        with hold_lease(folder, config.workers.lease_seconds) as lease:
            return _train(lease.folder, config, on_measurement)


def _train(
    folder: Folder, config: TrainGuideConfig, on_measurement: OnMeasurement
) -> TrainGuideResult:
    complete = folder.exists(CARD)
    card = read_card(folder) if complete else {}
    if not complete:
        # Before the config is written, so that a mistyped path does not occupy the folder.
        check_folders(config.data)
        check_ready(config.optimise, config.validation)
    config_check.check_config(folder, config, OWNER)
    rows = complete or folder.exists(HISTORY)
    models_check.check_models(folder, visible(sources(config)), rows=rows)
    if complete:
        return TrainGuideResult(card, already_complete=True)
    clear_failure(folder)
    result = _fit(folder, config, on_measurement)
    return TrainGuideResult(_deliver(folder, config, result), already_complete=False)


def check_ready(optimise: Optimise, validation: Validation) -> None:
    """Raises ConfigError where a package is missing and InputError where the validation prompts
    cannot be read. Workers would notice only after they have loaded models."""
    require_for_lora(optimise.lora)
    for item in read_prompts(validation.prompts):
        check_expected(item.prompt, validation.verify)


def _fit(folder: Folder, config: TrainGuideConfig, on_measurement: OnMeasurement) -> Any:
    """Ray Train's result. Raises the error that a worker has stored."""
    workers = config.workers
    # Ray Train would start its workers in a folder of its own, where relative paths do not exist.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    cluster = Cluster(
        address=workers.address,
        actors=Actors(workers.count, workers.count),
        cpus_per_actor=workers.cpus,
    )
    with connected(cluster):
        if not cluster.ray_address:
            count = workers.count
            gpus = float(count) if workers.gpu else 0.0
            require_resources(f"workers.count={count}", count * workers.cpus, gpus)
        trainer = _trainer(folder, config)
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            with followed(folder, on_measurement):
                result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise_failure(folder)
            raise RunError(f"training failed: {error}") from error
        except SystemExit as ended:  # Ray Train turns an interrupt into this
            raise KeyboardInterrupt from ended
        finally:
            signal.signal(signal.SIGINT, on_interrupt)  # Ray Train has replaced the handler
    # Workers that store an error may also return as if they had finished: `worker.work`.
    raise_failure(folder)
    return result


def _trainer(folder: Folder, config: TrainGuideConfig) -> TorchTrainer:
    workers = config.workers
    return TorchTrainer(
        _work,
        train_loop_config={"config": config, "working_dir": os.getcwd()},
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
                # Ray Train waits a minute for the workers to be placed, then counts a failure.
                controller_failure_limit=math.ceil(workers.scheduling_timeout_s / 60),
            ),
            checkpoint_config=CheckpointConfig(
                # The best one and the last one, from which training continues.
                num_to_keep=2,
                checkpoint_score_attribute="selection_score",
                checkpoint_score_order="max",
            ),
        ),
    )


def _deliver(folder: Folder, config: TrainGuideConfig, result: Any) -> dict[str, Any]:
    """Copy the best checkpoint's model to the guide's folder and return its card.

    The card is written last: a folder with a card is a complete guide.
    """
    history = json.loads(folder.read(HISTORY))
    best, metrics = max(result.best_checkpoints, key=lambda pair: pair[1]["selection_score"])
    with best.as_directory() as path:
        model = Path(path, MODEL)
        # Recursive: a tokenizer may have a folder of chat templates.
        for file in sorted(entry for entry in model.rglob("*") if entry.is_file()):
            folder.write(f"guide/{file.relative_to(model).as_posix()}", file.read_bytes())
    card = make_card(config, history, metrics["step"])
    write_card(folder, card)
    return card


def _work(settings: Mapping[str, Any]) -> None:
    # Torch and transformers are imported in workers alone: the driver starts in a second.
    from pipeline.train_guide.worker import work  # noqa: PLC0415

    enter_working_dir(settings["working_dir"])
    work(settings["config"])
