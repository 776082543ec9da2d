"""How far a training is, read from its folder. Needs neither Ray nor torch and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.run.status import RunState, state_of
from pipeline.store.claims import holder
from pipeline.store.files import MALFORMED, Folder
from pipeline.store.last_error import read_error
from pipeline.training.folder import FAILED
from pipeline.training.history import read_history
from pipeline.training.progress import Progress, read_progress


@dataclass(frozen=True, kw_only=True)
class TrainingStatus:
    """`progress` is None before the first step. `measurement` is the last one in the history,
    `failure` the error that ended the training."""

    state: RunState
    holder: str | None
    progress: Progress | None
    measurement: Mapping[str, Any] | None
    failure: str | None


def training_status(folder: Folder, card: str) -> TrainingStatus:
    """The status of a run folder of training. `card` is the file that is written last."""
    history = read_history(folder)
    measurements = history["measurements"] if history else []
    driver = holder(folder)
    return TrainingStatus(
        state=state_of(driver, finished=folder.exists(card)),
        holder=driver,
        progress=read_progress(folder),
        measurement=measurements[-1] if measurements else None,
        failure=_failure(folder) or read_error(folder),
    )


def _failure(folder: Folder) -> str | None:
    try:
        return str(json.loads(folder.read(FAILED))["message"])
    except (FileNotFoundError, *MALFORMED):
        return None
