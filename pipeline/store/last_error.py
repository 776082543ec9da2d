"""The error that ended the last run in a folder, for `nabla status`: a batch system may have lost
the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nabla_core.errors import NablaError
from pipeline.errors import PipelineError, StoreError
from pipeline.references import redacted
from pipeline.store.files import MALFORMED, Folder

FILE = "last_error.json"


@contextmanager
def error_kept(folder: Folder) -> Iterator[None]:
    """Store an error that ends the block; that of an earlier run is deleted.

    Not an error of the folder itself: a command with other settings, or a second driver, says
    nothing of the run that the folder holds.
    """
    if folder.exists(FILE):
        folder.delete(FILE)
    try:
        yield
    except StoreError:
        raise
    except (PipelineError, NablaError) as error:
        # What ended the run is told in any case, also where the disk is full.
        with suppress(OSError, StoreError):
            folder.write(FILE, json.dumps({"message": redacted(str(error))}).encode())
        raise


def read_error(folder: Folder) -> str | None:
    """What ended the last run; None where nothing did or the file is damaged."""
    if not folder.exists(FILE):
        return None
    try:
        return str(json.loads(folder.read(FILE))["message"])
    except MALFORMED:
        return None
