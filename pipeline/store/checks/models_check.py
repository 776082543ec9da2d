"""A run folder belongs to the models of its rows: are the files at their paths still the same?

`models.json` holds the identity of each model by its role, written before the first row is made.
The config alone does not tell: new weights may lie at an old path.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict

from nabla_core.errors import ModelError
from nabla_core.types import Identity
from pipeline.errors import ResumeError, StoreError
from pipeline.store.files import MALFORMED, Folder

MODELS = "models.json"

Models = Mapping[str, Identity]


def read_models(folder: Folder) -> dict[str, Identity]:
    """The models of the run by role; none where no model is known yet. Raises StoreError where
    the file is damaged."""
    if not folder.exists(MODELS):
        return {}
    try:
        found = json.loads(folder.read(MODELS))
        return {role: Identity(**{k: str(v) for k, v in m.items()}) for role, m in found.items()}
    except MALFORMED as error:
        raise StoreError(
            f"{folder.uri}/{MODELS} is damaged ({type(error).__name__}): it says which models made "
            "the rows. Delete it if the models of this command did; otherwise use another run_dir"
        ) from error


def check_models(folder: Folder, here: Models, *, rows: bool) -> None:
    """Write the models into the folder, unless `rows` there were made with others.

    `here` are the models whose files this process can see, maybe not all. Raises ResumeError
    naming each difference, and StoreError.
    """
    # A folder without rows may change its models: a broken file was replaced, for example.
    there = compare_models(folder, here) if rows else {}
    write_models(folder, {**here, **there})


def compare_models(folder: Folder, here: Models) -> dict[str, Identity]:
    """The models of the rows in the folder. Raises as `check_models` does, and changes nothing."""
    there = read_models(folder)
    if lines := _differences(there, here):
        raise ResumeError(
            f"{folder.uri} holds rows made with other models; use another run_dir or these models "
            "again\n"
            + "\n".join(f"  {role}: {old} in the folder, {new} now" for role, old, new in lines)
        )
    return there


def require_same(folder: Folder, run: Models, here: Models) -> None:
    """Raises ModelError where a worker has loaded other models than those of the run: a node may
    have other files at the same path, or files may be replaced during the run."""
    if lines := _differences(run, here):
        node = platform.node()
        raise ModelError(
            f"the models on {node} are not those of the run in {folder.uri}; every node needs the "
            "same files\n"
            + "\n".join(f"  {role}: {old} in the run, {new} on {node}" for role, old, new in lines)
        )


def write_models(folder: Folder, models: Models) -> None:
    """Write the models of the run by role, if the folder does not hold the same already."""
    text = json.dumps(
        {role: asdict(model) for role, model in sorted(models.items())}, indent=2
    ).encode()
    if not folder.exists(MODELS) or folder.read(MODELS) != text:
        folder.write(MODELS, text)


def _differences(there: Models, here: Models) -> list[tuple[str, str, str]]:
    """Role, old and new model of each role whose models are known in both and differ."""
    return [
        (role, _shown(there[role]), _shown(here[role]))
        for role in there
        if role in here and _key(there[role]) != _key(here[role])
    ]


def _key(model: Identity) -> tuple[str, ...]:
    # A folder may be renamed. A hub commit belongs to the repository in the name.
    return (model.revision,) if model.digested else (model.name, model.revision)


def _shown(model: Identity) -> str:
    return f"{model.name} {model.revision}"
