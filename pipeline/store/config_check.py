"""A run folder belongs to one config: which settings shape rows, and do they agree?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import yaml

from pipeline.errors import ResumeError
from pipeline.store.files import Folder

CONFIG = "config.yaml"


def shaping(settings: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The settings at or below the dotted `keys`, flat."""
    flat = _flatten(settings)
    return {
        name: value
        for name, value in flat.items()
        if any(name == key or name.startswith(f"{key}.") for key in keys)
    }


def digest(shape: Mapping[str, Any]) -> str:
    """16 hex digits of the settings that shape rows."""
    return blake2b(json.dumps(shape, sort_keys=True).encode(), digest_size=8).hexdigest()


def enter(folder: Folder, settings: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    """Leave the resolved config in the folder, or refuse another one that shapes rows.

    Raises ResumeError showing each difference.
    """
    if folder.exists(CONFIG):
        old = shaping(yaml.safe_load(folder.read(CONFIG)), keys)
        new = shaping(settings, keys)
        told = [
            f"  {name}: {old.get(name, 'not set')!s} there, {new.get(name, 'not set')!s} here"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]
        if told:
            raise ResumeError(
                f"{folder.uri} holds rows made with another config; use another run_dir or\n"
                + "\n".join(told)
            )
    folder.write(CONFIG, yaml.safe_dump(dict(settings), sort_keys=False).encode())


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            # Read back from YAML, a tuple is a list.
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
