"""The driver's side of a training: Ray Train starts the workers, and the best model is copied.

Imports ray but not torch: models are loaded by workers. The same run folder continues from the last
checkpoint.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import ray.train
from ray.exceptions import RayError
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from pipeline.cluster.config import Actors, Cluster
from pipeline.cluster.connection import connected, require_resources
from pipeline.errors import DamagedError, RunError
from pipeline.run.placement import require_placement
from pipeline.store.failpoints import failpoint_environment
from pipeline.store.files import MALFORMED, Folder
from pipeline.training.checksums import check_files
from pipeline.training.config import Workers
from pipeline.training.disk import raise_if_full
from pipeline.training.failure import raise_failure
from pipeline.training.folder import CHECKSUMS, HISTORY, MODEL, SELECTION, TRAIN
from pipeline.training.history import read_history

BLOCK = 1 << 24
ABORT_SECONDS = 10.0
# Ray Train's list of checkpoints.
SNAPSHOT = f"{TRAIN}/checkpoint_manager_snapshot.json"
LOG = logging.getLogger(__name__)


def fit(
    folder: Folder,
    work: Callable[[Mapping[str, Any]], None],
    config: Any,
    workers: Workers,
    following: AbstractContextManager[None],
) -> Any:
    """Run `work` in all workers; returns Ray Train's result.

    `work` gets `config` and the driver's `working_dir`. `following` is entered while the workers
    run. Raises the error that a worker has stored in the folder, DamagedError, and RunError.
    """
    _check_snapshot(folder)
    # Ray Train would start its workers in a folder of its own, where relative paths do not exist.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    cluster = Cluster(
        address=workers.address,
        actors=Actors(workers.count, workers.count),
        cpus_per_actor=workers.cpus,
        gpus_per_actor=1.0 if workers.gpu else 0.0,
    )
    with connected(cluster):
        if not cluster.ray_address:
            count = workers.count
            gpus = count * cluster.gpus_per_actor
            require_resources(f"workers.count={count}", count * workers.cpus, gpus)
            require_placement(cluster, LOG.warning)
        trainer = _trainer(folder, work, config, workers)
        try:
            with following:
                result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise_failure(folder)
            # A worker could not even store its error.
            raise_if_full(folder, error)
            raise RunError(f"training failed: {error}") from error
        except RayError as error:
            # Of Ray Train's own actor, for example. Its message is a traceback, and the last line
            # says what.
            reason = next(reversed(str(error).strip().splitlines()), "")
            raise RunError(f"Ray Train ended: {reason}") from error
        except KeyboardInterrupt:
            trainer.abort()
            raise
    # Workers that store an error may also return as if they had finished.
    raise_failure(folder)
    return result


def _check_snapshot(folder: Folder) -> None:
    """Raises DamagedError where Ray Train's list of checkpoints is damaged."""
    if not folder.exists(SNAPSHOT):
        return
    try:
        whole = isinstance(json.loads(folder.read(SNAPSHOT))["checkpoint_results"], list)
    except MALFORMED:
        whole = False
    if not whole:
        raise DamagedError(
            f"{folder.uri}/{SNAPSHOT}, the list of checkpoints, is damaged: restore it, or delete "
            "it to train from the first step",
            SNAPSHOT,
        )


def deliver(folder: Folder, result: Any, target: str) -> tuple[dict[str, Any], int]:
    """Copy the model of the best checkpoint to the sub-folder `target`.

    Returns the history in the run folder and the step of the checkpoint. Raises RunError where
    the history is damaged, and DamagedError where the checkpoint is.
    """
    history = read_history(folder)
    if history is None:
        raise RunError(
            f"{folder.uri}/{HISTORY} is damaged: the same command writes it again from the last "
            "checkpoint"
        )
    best, metrics = max(result.best_checkpoints, key=lambda pair: pair[1][SELECTION])
    with best.as_directory() as path:
        if Path(path, CHECKSUMS).exists():
            check_files(Path(path))
        model = Path(path, MODEL)
        # Recursive: a tokenizer may have a folder of chat templates.
        for file in sorted(entry for entry in model.rglob("*") if entry.is_file()):
            name = f"{target}/{file.relative_to(model).as_posix()}"
            # In blocks: a file of weights may be larger than the driver's memory.
            with file.open("rb") as source, folder.writing(name) as sink:
                while block := source.read(BLOCK):
                    sink.write(block)
    return history, metrics["step"]


class _Trainer(TorchTrainer):  # type: ignore[misc]
    """A trainer that leaves Ctrl-C to the command, which answers it alike in every job."""

    _controller: Any = None

    def _register_sigint_handler(self, controller: Any) -> None:
        self._controller = controller

    def abort(self) -> None:
        """End the workers: a Ray that is not of this run would go on with the training."""
        if self._controller is not None:
            # The actor ends itself, and so never answers.
            with suppress(RayError):
                ray.get(self._controller.abort.remote(), timeout=ABORT_SECONDS)


def _trainer(
    folder: Folder, work: Callable[[Mapping[str, Any]], None], config: Any, workers: Workers
) -> _Trainer:
    return _Trainer(
        work,
        train_loop_config={"config": config, "working_dir": os.getcwd()},
        scaling_config=ScalingConfig(
            num_workers=workers.count,
            use_gpu=workers.gpu,
            resources_per_worker={"CPU": workers.cpus, **({"GPU": 1} if workers.gpu else {})},
        ),
        run_config=RunConfig(
            name=TRAIN,
            storage_path=folder.root,
            storage_filesystem=None if folder.local else folder.fs,
            # TRL reports each training to its authors, unless it is told not to.
            worker_runtime_env={
                "env_vars": {**failpoint_environment(), "HF_HUB_DISABLE_TELEMETRY": "1"}
            },
            failure_config=FailureConfig(
                max_failures=workers.max_failures,
                # Ray Train waits a minute for the workers to be placed, then counts a failure.
                controller_failure_limit=math.ceil(workers.scheduling_timeout_s / 60),
            ),
            checkpoint_config=CheckpointConfig(
                # The best one and the last one, from which training continues.
                num_to_keep=2,
                checkpoint_score_attribute=SELECTION,
                checkpoint_score_order="max",
            ),
        ),
    )
