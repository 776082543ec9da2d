"""The identity of a model: a name without a machine's path, and a revision that tells its files.

model            name                                              revision
shipped          embedded:lm, embedded:judge, embedded:guide ...   sha256:<digest>
local folder     the last component of its path                    sha256:<digest>
from the hub     its id                                            the commit
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nabla_core.errors import ModelError
from nabla_core.models.digest import folder_digest
from nabla_core.models.hub import HUB_SECONDS, hub_answers
from nabla_core.models.location import may_be_hub_id
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
        return Identity(f"embedded:{name}" if shipped else name, _folder_revision(folder))
    commit = _commit(path, revision)
    if commit is None:
        raise ModelError(
            f"{path}: cannot tell which commit of this hub model was loaded; set its revision to "
            "a commit (40 hexadecimal digits), or give a local folder"
        )
    return Identity(path, commit)


def identify_unloaded(path: str, revision: str | None) -> Identity | None:
    """The identity of a model that loading it now would have; None where that is not known here:
    the folder may be on other machines, or the hub out of reach.

    Raises ModelError where a folder is here and cannot be read.
    """
    if Path(path).expanduser().is_dir():
        return identify(path, revision)
    if not may_be_hub_id(path):
        return None
    commit = _hub_commit(path, revision) or _commit(path, revision)
    return Identity(path, commit) if commit else None


@contextmanager
def unchanged(path: str) -> Iterator[None]:
    """Raises ModelError if the files of a model folder change in the block, which loads it: the
    identity would be that of other weights than the loaded ones. A hub id passes."""
    folder = Path(path).expanduser()
    before = folder_digest(folder) if folder.is_dir() else None
    yield
    if before is not None and folder_digest(folder) != before:
        raise ModelError(f"{path}: its files changed while it was loaded")


def _folder_revision(folder: Path) -> str:
    """The digest of a folder. Of an adapter, which is loaded onto another model, it covers that
    model too."""
    digest = folder_digest(folder)
    try:
        adapter = json.loads((folder / "adapter_config.json").read_bytes())
        base, revision = adapter["base_model_name_or_path"], adapter.get("revision")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return digest
    if not isinstance(base, str) or Path(base).expanduser().resolve() == folder.resolve():
        return digest
    both = f"{digest} {identify(base, revision).revision}"
    return f"sha256:{hashlib.sha256(both.encode()).hexdigest()[:16]}"


def _hub_commit(path: str, revision: str | None) -> str | None:
    """The commit that the hub gives for a branch or tag now; None where it does not answer."""
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    if not hub_answers():
        return None
    from huggingface_hub import HfApi  # noqa: PLC0415 - as below

    try:
        return HfApi().model_info(path, revision=revision, timeout=HUB_SECONDS).sha
    # No network, offline mode, no such model, no access: loading the model will say which.
    except Exception:  # noqa: BLE001
        return None


def _commit(path: str, revision: str | None) -> str | None:
    """The commit of a hub model in the local cache, in which loading it has put it.

    transformers resolves a branch or tag once a call and keeps the commit to itself. The cache
    notes it: a file lies at snapshots/<commit>/, and refs/ maps each branch to its commit.
    """
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    # It takes a second to import, and drivers look at folders only.
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415

    file = try_to_load_from_cache(path, "config.json", revision=revision)
    return Path(file).parent.name if isinstance(file, str) else None
