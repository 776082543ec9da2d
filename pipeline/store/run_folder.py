"""Opening a run folder, and what it means where files in it cannot be read or written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import RunError, StoreError
from pipeline.store.files import Folder

_FULL = (errno.ENOSPC, errno.EDQUOT)


def open_folder(uri: str) -> Folder:
    """Raises StoreError where no file system knows the path or URI."""
    try:
        return Folder(uri)
    except (OSError, ValueError, ImportError) as error:
        raise StoreError(f"cannot open run folder {uri}: {error}") from error


@contextmanager
def translate_os_errors(uri: str) -> Iterator[None]:
    """An OSError in the block becomes RunError where the store is full, for what is there is
    good and the same command goes on, and StoreError otherwise."""
    try:
        yield
    except OSError as error:
        kind = RunError if error.errno in _FULL else StoreError
        raise kind(f"run folder {uri}: {error}") from error
