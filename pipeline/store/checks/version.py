"""The version of a run folder's layout, in the file `_VERSION`.

A change of the files' names or of their meaning raises `VERSION`. A folder of another version is
refused before anything in it is read or written.
"""

from __future__ import annotations

from pipeline.errors import VersionError
from pipeline.store.files import Folder

VERSION = 2
FILE = "_VERSION"

# Folders of version 1 have no version file; each of them has at least one of these.
_SINCE_VERSION_1 = ("config.yaml", "input.json")


def check_version(folder: Folder) -> None:
    """Raises VersionError if the folder holds a run of another version; a new folder passes."""
    version = _version(folder)
    if version is not None and version != str(VERSION):
        raise VersionError(
            f"{folder.uri} is a run folder of version {version}, and this release reads and writes "
            f"version {VERSION}: use another run_dir, or the release that made it"
        )


def claim_version(folder: Folder) -> None:
    """Mark a new folder with the present version. Raises VersionError as `check_version` does."""
    check_version(folder)
    # Written before any other file: a crash in between must not leave a folder that looks like one
    # of version 1.
    if not folder.exists(FILE):
        folder.write(FILE, f"{VERSION}\n".encode())


def _version(folder: Folder) -> str | None:
    """The version of a run folder; None if no run was started in the folder yet."""
    if folder.exists(FILE):
        return folder.read(FILE).decode(errors="replace").strip()
    return "1" if any(folder.exists(name) for name in _SINCE_VERSION_1) else None
