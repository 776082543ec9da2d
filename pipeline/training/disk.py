"""A disk that fills while workers train: one error that names it, and a resume that works.

Ray Train copies a checkpoint into the run folder and then writes its list of checkpoints in place.
If the disk filled in between, the list would be lost, and every checkpoint with it. So a worker
hands a checkpoint over only where there is room for it.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nabla_core.errors import NablaError
from pipeline.errors import PipelineError, RunError
from pipeline.store.files import Folder
from pipeline.store.run_folder import disk_is_full

# Stays free for the lease, the list of checkpoints and the error itself.
RESERVE = 1 << 20
_RESUME = "free some, and the same command continues from the last checkpoint"


def require_room(folder: Folder, checkpoint: Path) -> None:
    """Raises RunError where the disk of the run folder cannot take the files of a checkpoint. An
    object store has no end that could be asked for."""
    if not folder.local:
        return
    size = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())
    free = _free(folder.root)
    if free < size + RESERVE:
        raise RunError(
            f"run folder {folder.uri}: its disk has {_amount(free)} left, and a checkpoint of "
            f"{_amount(size)} is due: {_RESUME}"
        )


@contextmanager
def full_disk_named(folder: Folder) -> Iterator[None]:
    """Turn what the block raises into a RunError where the disk of the run folder or that of
    temporary files is full."""
    try:
        yield
    except Exception as error:
        raise_if_full(folder, error)
        raise


def raise_if_full(folder: Folder, error: Exception) -> None:
    """Raises RunError from `error` where it comes of a full disk.

    Libraries report that in their own ways: safetensors and torch raise no OSError. So the disks
    are asked, but for an error of ours, which has another reason unless an OSError says so.
    """
    said = disk_is_full(error) or os.strerror(errno.ENOSPC) in str(error)
    if isinstance(error, NablaError | PipelineError) and not said:
        return
    places = {"temporary folder": tempfile.gettempdir()}
    if folder.local:
        places["run folder"] = folder.root
    full = [f"{what} {path}" for what, path in places.items() if _free(path) < RESERVE]
    if full or said:
        # A quota does not show in what a disk says of itself, nor a file that was taken away again.
        where = " or ".join(full or [f"{what} {path}" for what, path in places.items()])
        reason = str(error).strip().splitlines()[-1:] or [""]
        raise RunError(
            f"{where}: the disk is full: {_RESUME} ({type(error).__name__}: {reason[0]})"
        ) from error


def _free(path: str) -> int:
    """The bytes that are left on the disk of a path, which may not exist yet."""
    there = next(p for p in (Path(path), *Path(path).parents) if os.path.exists(p))
    return shutil.disk_usage(there).free


def _amount(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
