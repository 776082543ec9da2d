"""history.json in a run folder of a training: all measurements, and what the card says of them.

Workers write it beside each checkpoint, so that the driver can show a measurement at once. The
checkpoint holds the same, and a worker that continues from it writes the file again. So a damaged
file counts as a missing one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.store.files import MALFORMED, Folder
from pipeline.training.folder import HISTORY


def write_history(folder: Folder, history: Mapping[str, Any]) -> None:
    """Write the history. Its `measurements` are a list of dicts, each with its `step`."""
    folder.write(HISTORY, json.dumps(history, indent=2).encode())


def read_history(folder: Folder) -> dict[str, Any] | None:
    """The history; None where it is missing or damaged."""
    if not folder.exists(HISTORY):
        return None
    try:
        history = json.loads(folder.read(HISTORY))
        whole = all(type(m["step"]) is int for m in history["measurements"])
    except MALFORMED:
        return None
    return history if whole else None
