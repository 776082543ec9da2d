"""Whether a model is where a setting says. Imports neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nabla_core.errors import ModelError
from nabla_core.models.hub import why_not_on_hub


def may_be_hub_id(path: str) -> bool:
    """Whether a path has the form of a hub id: `name` or `owner/name`."""
    return not path.startswith((".", "~", "/")) and path.count("/") <= 1


def check_location(path: str) -> None:
    """Raises ModelError where a path is neither a folder here nor the id of a model that is in
    the cache or may be on the hub. Takes seconds where the hub does not answer."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return
    if folder.exists():
        raise ModelError(f"{path}: a model is a folder, and this is a file")
    if not may_be_hub_id(path):
        raise ModelError(f"{path}: no such folder")
    # models/lm has the form of a hub id, but nobody has a folder `models` for its owner.
    if "/" in path and folder.parent.is_dir():
        raise ModelError(f"{path}: no such folder; {path.partition('/')[0]} is a folder here")
    if (reason := why_not_on_hub(path)) is not None:
        raise ModelError(
            f"{path}: no such folder here, and no model of this id on the hub ({reason})"
        )


def check_locations(paths: Mapping[str, str]) -> None:
    """Raises ModelError naming every setting (key -> path) whose model is no folder here and
    cannot be on the hub."""
    wrong = []
    for key, path in paths.items():
        try:
            check_location(path)
        except ModelError as error:
            wrong.append(f"{key}: {error}")
    if wrong:
        raise ModelError("\n".join(wrong))


def unavailable(path: str, what: str, error: Exception) -> ModelError:
    """The error of a model of which transformers cannot load `what`."""
    if Path(path).is_dir():
        return ModelError(f"{path}: cannot load its {what}: {shown(error)}")
    # The advice of transformers is on network settings; a mistyped path is more likely.
    return ModelError(
        f"{path}: no such folder, and no {what} of a hub model of this id can be loaded: "
        f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"
    )


def shown(error: Exception) -> str:
    """The text of an error of transformers, with its type where the text alone says little, as
    that of a KeyError, which is nothing but the key."""
    tells = isinstance(error, OSError | ValueError | RuntimeError | ImportError)
    return str(error) if tells else f"{type(error).__name__}: {error}"
