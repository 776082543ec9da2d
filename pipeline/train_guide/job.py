"""The driver of `jobs.train_guide`: starts the workers and stores the guide.

Imports no torch: models are loaded by workers (`train_guide.worker`). The same command
continues from the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from nabla_core.models.location import check_locations
from pipeline.cluster.config import Cluster
from pipeline.cluster.working_dir import enter_working_dir
from pipeline.run.models import visible
from pipeline.store.checks import config_check, models_check
from pipeline.store.checks.owner import check_owner
from pipeline.store.files import Folder
from pipeline.store.last_error import error_kept
from pipeline.store.lease import hold_lease
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.train_guide.card import make_card, read_card, write_card
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.data import check_folders
from pipeline.train_guide.folder import CARD
from pipeline.train_guide.models import model_paths, sources
from pipeline.train_guide.ready import OWNER, check_ready, resolved
from pipeline.training.failure import clear_failure
from pipeline.training.fit import deliver, fit
from pipeline.training.folder import HISTORY
from pipeline.training.progress import OnMeasurement, OnProgress, followed


@dataclass(frozen=True)
class TrainGuideResult:
    """The card of a guide. `already_complete`: an earlier run had finished it."""

    card: dict[str, Any]
    already_complete: bool


def train_guide(
    config: TrainGuideConfig,
    on_measurement: OnMeasurement,
    on_progress: OnProgress | None = None,
    on_start: Callable[[], None] = lambda: None,
) -> TrainGuideResult:
    """Train a guide, or continue its training, and write it to `<run_dir>/guide`.

    `on_start` is called when all is checked that needs no model to be loaded, `on_measurement` with
    each measurement, `on_progress` as steps are taken. A run folder has one driver at a time
    (LeaseError). Raises PipelineError and ModelError. After KeyboardInterrupt the folder can be
    resumed.
    """
    config, _ = resolved(config)
    folder = open_folder(config.run_dir)
    with translate_os_errors(config.run_dir):
        # Before the lease writes into the folder: a mistake leaves it as it was.
        _check(folder, config)
        on_start()
        with hold_lease(folder, config.workers.lease_seconds) as lease:
            following = followed(lease.folder, on_measurement, on_progress)
            return _train(lease.folder, config, following)


def _check(folder: Folder, config: TrainGuideConfig) -> None:
    """Raises PipelineError and ModelError where the training cannot start; changes nothing."""
    check_owner(folder, OWNER)
    if not folder.exists(CARD):
        check_folders(config.data, config.target)
        check_ready(config.optimise, config.validation)
        if not Cluster(address=config.workers.address).ray_address:
            check_locations(model_paths(config))
    config_check.compare_config(folder, config, OWNER)


def _train(
    folder: Folder, config: TrainGuideConfig, following: AbstractContextManager[None]
) -> TrainGuideResult:
    complete = folder.exists(CARD)
    card = read_card(folder) if complete else {}
    config_check.check_config(folder, config, OWNER)
    rows = complete or folder.exists(HISTORY)
    models_check.check_models(folder, visible(sources(config)), rows=rows)
    if complete:
        return TrainGuideResult(card, already_complete=True)
    clear_failure(folder)
    with error_kept(folder):
        # Ray Train's result. Raises the error that a worker has stored.
        result = fit(folder, _work, config, config.workers, following)
        return TrainGuideResult(_deliver(folder, config, result), already_complete=False)


def _deliver(folder: Folder, config: TrainGuideConfig, result: Any) -> dict[str, Any]:
    """Copy the best checkpoint's model to the guide's folder and return its card.

    The card is written last: a folder with a card is a complete guide.
    """
    history, step = deliver(folder, result, "guide")
    card = make_card(config, history, step)
    write_card(folder, card)
    return card


def _work(settings: Mapping[str, Any]) -> None:
    # Torch and transformers are imported in workers alone: the driver starts in a second.
    from pipeline.train_guide.worker import work  # noqa: PLC0415

    enter_working_dir(settings["working_dir"])
    work(settings["config"])
