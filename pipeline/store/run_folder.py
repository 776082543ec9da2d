"""Opening a run folder, and the errors of files in it that cannot be read or written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import RunError, StoreError
from pipeline.store.files import Folder

_FULL = (errno.ENOSPC, errno.EDQUOT)


# `ray job submit --working-dir` starts the command in a copy of that folder.
_RAY_COPIES = "/runtime_resources/working_dir_files/"


def open_folder(uri: str) -> Folder:
    """The run folder at a path or URI. `~` is expanded; a relative path starts at the folder in
    which the command was started.

    Raises StoreError if no file system knows the URI, or if the folder would lie in the copy of
    the working directory that Ray makes for a submitted job.
    """
    try:
        folder = Folder(uri)
    except (OSError, ValueError, ImportError) as error:
        raise StoreError(f"cannot open run folder {uri}: {error}") from error
    # Ray deletes its copy after the job, and the rows with it.
    if folder.local and _RAY_COPIES in folder.root:
        raise StoreError(
            f"run_dir {uri} lies in the copy of the working directory that Ray deletes after the "
            "job: give an absolute path or a URI"
        )
    return folder


@contextmanager
def translate_os_errors(uri: str, what: str = "run folder") -> Iterator[None]:
    """Turn an OSError in the block into a RunError if the disk is full, and a StoreError otherwise.

    A full disk ends the run and harms no file: the same command resumes once there is room.
    """
    try:
        yield
    except OSError as error:
        kind = RunError if error.errno in _FULL else StoreError
        raise kind(f"{what} {uri}: {error}") from error


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error is, or comes of, that of a full disk or of a quota that is used up."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False
