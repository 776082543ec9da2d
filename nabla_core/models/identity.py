"""The identity of a model: a name without a machine's path, and a revision that tells its weights.

model            name                                              revision
shipped          embedded:lm, embedded:judge, embedded:guide ...   sha256:<digest>
local folder     the last component of its path                    sha256:<digest>
from the hub     its id                                            the commit
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from nabla_core.errors import ModelError
from nabla_core.types import Identity

# Named here and not imported: the code that trains the shipped models imports this package.
_SHIPPED = Path(__file__).resolve().parents[1] / "embedded" / "weights"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def identify(path: str, revision: str | None) -> Identity:
    """The identity of a model that was loaded from a folder or, at `revision`, from the hub.

    Raises ModelError if the commit of a hub model is not known. A branch such as "main" would be
    no identity: it names another model as soon as somebody pushes to it.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        # Of "." and ".." too; but the name of a symbolic link is the one that the user chose.
        name = os.path.basename(os.path.abspath(folder))
        shipped = folder.resolve().parent == _SHIPPED
        return Identity(f"embedded:{name}" if shipped else name, _digest(folder))
    commit = _commit(path, revision)
    if commit is None:
        raise ModelError(
            f"{path}: cannot tell which commit of this hub model was loaded; set its revision to "
            "a commit (40 hexadecimal digits), or give a local folder"
        )
    return Identity(path, commit)


def _commit(path: str, revision: str | None) -> str | None:
    """The commit of a hub model in the local cache, in which loading it has put it.

    transformers resolves a branch or tag once a call and keeps the commit to itself. The cache
    notes it: a file lies at snapshots/<commit>/, and refs/ maps each branch to its commit.
    """
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    file = try_to_load_from_cache(path, "config.json", revision=revision)
    return Path(file).parent.name if isinstance(file, str) else None


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
