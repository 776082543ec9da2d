"""An error that another attempt would only repeat.

The worker that fails writes it into the run folder. There the driver finds it and raises it, and
workers that Ray Train starts again find it and end.
"""

from __future__ import annotations

import json

from nabla_core.errors import ModelError
from pipeline.errors import ConfigError, InputError, RunError, StoreError
from pipeline.store.files import MALFORMED, Folder
from pipeline.training.folder import FAILED

KINDS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (ModelError, ConfigError, InputError, StoreError, RunError)
}


def write_failure(folder: Folder, error: Exception) -> None:
    """Store the error; one that is none of `KINDS` becomes a RunError."""
    names = [name for name, kind in KINDS.items() if isinstance(error, kind)]
    failure = {"kind": names[0] if names else RunError.__name__, "message": str(error)}
    folder.write(FAILED, json.dumps(failure).encode())


def has_failed(folder: Folder) -> bool:
    """Whether a worker has stored an error."""
    return folder.exists(FAILED)


def raise_failure(folder: Folder) -> None:
    """Raise the stored error; without one, do nothing."""
    if not has_failed(folder):
        return
    try:
        failure = json.loads(folder.read(FAILED))
        kind, message = KINDS[failure["kind"]], str(failure["message"])
    except MALFORMED as error:
        raise RunError(
            f"a worker has failed, and {folder.uri}/{FAILED}, which held its error, is damaged: "
            "the same command tries again"
        ) from error
    raise kind(message)


def clear_failure(folder: Folder) -> None:
    """Delete the error of an earlier attempt."""
    if has_failed(folder):
        folder.delete(FAILED)
