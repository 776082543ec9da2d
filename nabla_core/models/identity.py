"""The identity of a model: a name without a machine's path, and a revision that tells its weights.

shipped model    embedded:lm, embedded:judge, embedded:guide, embedded:head    sha256:<digest>
local folder     the last component of its path                                sha256:<digest>
hub model        its id                                                        commit
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from nabla_core.errors import ModelError
from nabla_core.types import Identity

# Named here and not imported: the code that trains the shipped models imports this package.
_SHIPPED = Path(__file__).resolve().parents[1] / "embedded" / "weights"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def identify(path: str, commit: str | None) -> Identity:
    """The identity of a model folder, or of a hub model of which `commit` was loaded.

    Raises ModelError if `path` is a hub id and no commit is given. A branch such as "main" is no
    commit: it names another model as soon as somebody pushes to it.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        folder = folder.resolve()
        shipped = folder.parent == _SHIPPED
        return Identity(f"embedded:{folder.name}" if shipped else folder.name, _digest(folder))
    if commit is None:
        raise ModelError(
            f"{path}: cannot tell which commit of this hub model was loaded; set its revision to "
            "a commit (40 hexadecimal digits), or give a local folder"
        )
    return Identity(path, commit)


def identify_loaded(path: str, revision: str | None, config: Any) -> Identity:
    """The identity of a model that transformers loaded from `path`; `config` is the model's.

    transformers notes the commit that a branch or tag resolved to in the config. Raises
    ModelError as `identify` does.
    """
    commit = getattr(config, "_commit_hash", None)
    if commit is None and revision is not None and _COMMIT.fullmatch(revision):
        commit = revision
    return identify(path, commit)


def _digest(folder: Path) -> str:
    """Of the config and the weights: the size and the first and last MiB of each file. That is
    enough to notice another checkpoint, and takes no longer for a model of any size."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors")):
        digest.update(f"{file.name} {file.stat().st_size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(1 << 20))
            stream.seek(max(0, file.stat().st_size - (1 << 20)))
            digest.update(stream.read())
    return f"sha256:{digest.hexdigest()[:16]}"
