"""The driver of `jobs.train_judge`: starts the workers and stores the judge.

Imports no torch: models are loaded by workers (`train_judge.worker`). The same command continues
from the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nabla_core.models.location import check_locations
from pipeline.cluster.config import Cluster
from pipeline.cluster.working_dir import enter_working_dir
from pipeline.run.models import visible
from pipeline.store.checks import config_check, models_check
from pipeline.store.checks.owner import check_owner
from pipeline.store.checks.unused import check_unused
from pipeline.store.files import Folder
from pipeline.store.lease import hold_lease
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.train_judge.card import make_card, read_card, write_card
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.train_judge.folder import CARD, JUDGE
from pipeline.train_judge.models import model_paths, sources
from pipeline.train_judge.ready import OWNER, check_ready, resolved
from pipeline.training.failure import clear_failure
from pipeline.training.fit import deliver, fit
from pipeline.training.folder import HISTORY
from pipeline.training.progress import OnMeasurement, OnProgress, followed


@dataclass(frozen=True)
class TrainJudgeResult:
    """The card of a judge. `already_complete`: an earlier run had finished it."""

    card: dict[str, Any]
    already_complete: bool


def train_judge(
    config: TrainJudgeConfig,
    on_measurement: OnMeasurement,
    on_progress: OnProgress | None = None,
) -> TrainJudgeResult:
    """Train a judge, or continue its training, and write it to `<run_dir>/judge`.

    `on_measurement` is called with each measurement, `on_progress` as steps are taken. A run folder
    has one driver at a time (LeaseError). Raises PipelineError and ModelError. After
    KeyboardInterrupt the folder can be resumed.
    """
    config, _ = resolved(config)
    folder = open_folder(config.run_dir)
    with translate_os_errors(config.run_dir):
        # Before the lease writes into the folder: a mistake leaves it as it was.
        check_start(folder, config)
        with hold_lease(folder, config.workers.lease_seconds) as lease:
            return _train(lease.folder, config, on_measurement, on_progress)


def check_start(folder: Folder, config: TrainJudgeConfig) -> None:
    """Raises PipelineError and ModelError where the training cannot start; changes nothing."""
    check_owner(folder, OWNER)
    check_unused(folder)
    if not folder.exists(CARD):
        check_ready(config)
        if not Cluster(address=config.workers.address).ray_address:
            check_locations(model_paths(config))
    config_check.compare_config(folder, config, OWNER)


def _train(
    folder: Folder,
    config: TrainJudgeConfig,
    on_measurement: OnMeasurement,
    on_progress: OnProgress | None,
) -> TrainJudgeResult:
    complete = folder.exists(CARD)
    card = read_card(folder) if complete else {}
    config_check.check_config(folder, config, OWNER)
    rows = complete or folder.exists(HISTORY)
    models_check.check_models(folder, visible(sources(config)), rows=rows)
    if complete:
        return TrainJudgeResult(card, already_complete=True)
    clear_failure(folder)
    following = followed(folder, on_measurement, on_progress)
    result = fit(folder, _work, config, config.workers, following)
    history, step = deliver(folder, result, JUDGE)
    card = make_card(config, history, step)
    write_card(folder, card)
    return TrainJudgeResult(card, already_complete=False)


def _work(settings: Mapping[str, Any]) -> None:
    # Torch and TRL are imported in workers alone: the driver starts in a second.
    from pipeline.train_judge.worker import work  # noqa: PLC0415

    enter_working_dir(settings["working_dir"])
    work(settings["config"])
