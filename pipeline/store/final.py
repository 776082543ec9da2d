"""Which final files of a run folder are to be trusted: those of the manifest that `_SUCCESS` names.

`_SUCCESS` holds the checksum of manifest.json, and the manifest those of the files in data/ and
dead_letter/. A folder in which one of the three does not fit the others is not finished, and a file
that the manifest does not list is not part of the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.store.files import MALFORMED, Folder, checksum_of

DATA, DEAD_LETTER = "data", "dead_letter"
SUCCESS, MANIFEST = "_SUCCESS", "manifest.json"


def write_manifest(folder: Folder, described: Mapping[str, Any]) -> str:
    """Write the manifest and return its checksum. `described` is what `manifest.describe` returns;
    its `checksums` are those of the final files."""
    content = json.dumps(described, indent=2).encode()
    folder.write(MANIFEST, content)
    return checksum_of(content)


def write_marker(folder: Folder, checksum: str) -> None:
    """Mark the folder as finished with the manifest of this checksum."""
    folder.write(SUCCESS, f"{checksum}\n".encode())


def published(folder: Folder) -> dict[str, str] | None:
    """The final files of a finished folder with their checksums. None if the folder is not
    finished, or its manifest is damaged or another one than it was finished with."""
    try:
        if not folder.exists(SUCCESS):
            return None
        marker = folder.read(SUCCESS).decode(errors="replace").strip()
        if folder.checksum(MANIFEST) != marker:
            return None
        sums = json.loads(folder.read(MANIFEST))["checksums"]
    except (FileNotFoundError, *MALFORMED):
        return None
    if not isinstance(sums, dict):
        return None
    return {str(name): str(checksum) for name, checksum in sums.items()}
