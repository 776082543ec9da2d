"""The driver of `jobs.distill`: starts the workers and stores the student.

Imports no torch: models are loaded by workers (`distill.worker`). The same command continues from
the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nabla_core.models.location import check_locations
from pipeline.cluster.config import Cluster
from pipeline.cluster.working_dir import enter_working_dir
from pipeline.distill.card import make_card, read_card, write_card
from pipeline.distill.config import DistillConfig
from pipeline.distill.exports import Export, export_config, read_exports
from pipeline.distill.folder import CARD, STUDENT
from pipeline.distill.models import model_paths, sources
from pipeline.errors import ConfigError
from pipeline.export.job import export
from pipeline.export.sources import open_sources
from pipeline.extras import require, require_for_lora, require_reporter
from pipeline.grading.graders import check_expected
from pipeline.inputs.prompts import read as read_prompts
from pipeline.run.models import visible
from pipeline.run.verify_method import resolve, with_verify
from pipeline.store.checks import config_check, models_check
from pipeline.store.checks.owner import Owner, check_owner
from pipeline.store.checks.unused import check_unused
from pipeline.store.files import Folder
from pipeline.store.last_error import error_kept
from pipeline.store.lease import hold_lease
from pipeline.store.run_folder import open_folder, translate_os_errors
from pipeline.training.failure import clear_failure
from pipeline.training.fit import deliver, fit
from pipeline.training.folder import HISTORY
from pipeline.training.progress import OnMeasurement, OnProgress, followed

OWNER = Owner("distill")


@dataclass(frozen=True)
class DistillResult:
    """The card of a student. `already_complete`: an earlier run had finished it."""

    card: dict[str, Any]
    already_complete: bool


def distill(
    config: DistillConfig, on_measurement: OnMeasurement, on_progress: OnProgress
) -> DistillResult:
    """Train a student, or continue its training, and write it to `<run_dir>/student`.

    A run folder has one driver at a time (LeaseError). Raises PipelineError and ModelError. After
    KeyboardInterrupt the folder can be resumed.
    """
    folder = open_folder(config.run_dir)
    with translate_os_errors(config.run_dir):
        # Before the lease writes into the folder: a mistake leaves it as it was.
        check_start(folder, config)
        with hold_lease(folder, config.workers.lease_seconds) as lease:
            return _distill(lease.folder, config, on_measurement, on_progress)


def resolved(config: DistillConfig) -> tuple[DistillConfig, list[str]]:
    """The config with a method in place of `validation.verify.method: auto`, and what to tell the
    user of it. Raises PipelineError."""
    validation = config.validation
    verify, notes = resolve(
        validation.verify, config.run_dir, validation.prompts, key="validation.verify"
    )
    return replace(config, validation=with_verify(validation, verify)), notes


def _distill(
    folder: Folder, config: DistillConfig, on_measurement: OnMeasurement, on_progress: OnProgress
) -> DistillResult:
    complete = folder.exists(CARD)
    card = read_card(folder) if complete else {}
    config_check.check_config(folder, config, OWNER)
    rows = complete or folder.exists(HISTORY)
    models_check.check_models(folder, visible(sources(config)), rows=rows)
    if complete:
        return DistillResult(card, already_complete=True)
    with error_kept(folder):
        return DistillResult(
            _made(folder, config, on_measurement, on_progress), already_complete=False
        )


def _made(
    folder: Folder, config: DistillConfig, on_measurement: OnMeasurement, on_progress: OnProgress
) -> dict[str, Any]:
    """Export, train and deliver; returns the card."""
    if config.export.run_dir:
        # Made once: the folder of a resumed run is complete or continued.
        export(export_config(config), lambda phase, done, total: None)
        check_held_out(config, read_exports(config))
    clear_failure(folder)
    following = followed(folder, on_measurement, on_progress)
    result = fit(folder, _work, config, config.workers, following)
    history, step = deliver(folder, result, STUDENT)
    card = make_card(config, history, step)
    write_card(folder, card)
    return card


def check_start(folder: Folder, config: DistillConfig) -> None:
    """Raises PipelineError and ModelError where the training cannot start; changes nothing."""
    check_owner(folder, OWNER)
    check_unused(folder)
    if not folder.exists(CARD):
        check_ready(config)
        if not Cluster(address=config.workers.address).ray_address:
            check_locations(model_paths(config))
    config_check.compare_config(folder, config, OWNER)


def check_ready(config: DistillConfig) -> None:
    """Raises ConfigError where a package is missing and InputError where exports or validation
    prompts cannot be read. Workers would notice only after they have started."""
    require("trl", "train", "nabla distill")
    require_for_lora(config.optimise.lora)
    for name in config.report_to:
        require_reporter(name)
    if config.export.run_dir:
        open_sources(config.export.run_dir, allow_partial=config.export.allow_partial)
    else:
        check_held_out(config, read_exports(config))
    for item in read_prompts(config.validation.prompts):
        check_expected(item.prompt, config.validation.verify)


def check_held_out(config: DistillConfig, exports: Sequence[Export]) -> None:
    """Raises ConfigError where the loss on held-out rows is asked for and none are."""
    held_out = config.data.held_out or any(e.facts["splits"].get("test") for e in exports)
    if config.validation.metric == "loss" and not held_out:
        raise ConfigError(
            "validation.metric=loss needs held-out rows: set data.held_out, or export with "
            "split.held_out"
        )


def _work(settings: Mapping[str, Any]) -> None:
    # Torch and TRL are imported in workers alone: the driver starts in a second.
    from pipeline.distill.worker import work  # noqa: PLC0415

    enter_working_dir(settings["working_dir"])
    work(settings["config"])
