"""Checksums of the files of a checkpoint: transformers would load damaged weights, or end in an
error that names no file."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.errors import DamagedError
from pipeline.store.files import MALFORMED, Folder
from pipeline.training.folder import CHECKSUMS, TRAIN


def write_checksums(path: Path) -> None:
    """Store the checksums of all files in a checkpoint's folder."""
    folder = Folder(str(path))
    (path / CHECKSUMS).unlink(missing_ok=True)
    names = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    sums = {name: folder.checksum(name) for name in sorted(names)}
    (path / CHECKSUMS).write_text(json.dumps(sums))


def check_files(path: Path) -> None:
    """Raises DamagedError where a file of a checkpoint is missing or altered."""
    try:
        sums = dict(json.loads((path / CHECKSUMS).read_bytes()))
    except (*MALFORMED, OSError) as error:
        raise damaged(path, f"{CHECKSUMS}: {type(error).__name__}") from error
    folder = Folder(str(path))
    for name, expected in sums.items():
        if not folder.exists(name):
            raise damaged(path, f"{name} is missing")
        if folder.checksum(name) != expected:
            raise damaged(path, f"{name} was altered")


def damaged(path: Path, reason: str) -> DamagedError:
    """The error of a checkpoint from which training cannot continue."""
    return DamagedError(
        f"checkpoint {path.name} is damaged ({reason}): restore it, or delete the folder {TRAIN} "
        "of the run to train from the first step"
    )
