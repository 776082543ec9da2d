"""An error that training again would only repeat: a worker leaves it in the run folder, where
the driver finds it, and workers that Ray Train starts once more."""

from __future__ import annotations

import json

from nabla_core.errors import ModelError
from pipeline.errors import ConfigError, InputError, RunError, StoreError
from pipeline.store.files import Folder
from pipeline.train_guide.folder import FAILED

KINDS: dict[str, type[Exception]] = {
    e.__name__: e for e in (ModelError, ConfigError, InputError, StoreError, RunError)
}


def leave(folder: Folder, error: Exception) -> None:
    """Write it down; an error of another kind becomes a RunError."""
    kinds = [name for name, known in KINDS.items() if isinstance(error, known)]
    told = {"kind": (kinds or [RunError.__name__])[0], "message": str(error)}
    folder.write(FAILED, json.dumps(told).encode())


def is_left(folder: Folder) -> bool:
    """Whether a worker has left one."""
    return folder.exists(FAILED)


def raise_left(folder: Folder) -> None:
    """Raise what a worker has left, if one has."""
    if is_left(folder):
        told = json.loads(folder.read(FAILED))
        raise KINDS[told["kind"]](told["message"])


def forget(folder: Folder) -> None:
    """Before training is tried again."""
    if is_left(folder):
        folder.delete(FAILED)
