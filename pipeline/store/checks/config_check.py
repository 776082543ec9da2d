"""A run folder belongs to one config: are the settings that shape its rows the same?

Which settings those are is marked at the fields of the config classes: see
`nabla_core.config_metadata`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from nabla_core.config_metadata import KEY
from pipeline.errors import ResumeError
from pipeline.references import hashable, referenced, valued
from pipeline.store.checks.owner import Owner, check_owner, claim_owner
from pipeline.store.checks.version import FILE as VERSION_FILE
from pipeline.store.expected import INPUT, read_expected
from pipeline.store.files import Folder
from pipeline.store.parts import CONFIG as CONFIG_MARK

CONFIG = "config.yaml"
_OTHER_RELEASE = "the release that made them, which had other settings"


def not_shaping(config: type, prefix: str = "") -> list[str]:
    """The dotted keys of a config class that are marked as not shaping; a section's key stands
    for all keys below it."""
    keys: list[str] = []
    hints = get_type_hints(config)
    for field in fields(config):
        mark, key = field.metadata.get(KEY, True), f"{prefix}{field.name}"
        if mark is False:
            keys.append(key)
        elif mark != "throughout" and is_dataclass(hints[field.name]):
            keys += not_shaping(hints[field.name], f"{key}.")
    return keys


def digest(config: Any) -> str:
    """16 hex digits of the settings of a config (a dataclass) that shape rows."""
    settings = asdict(config)
    levels = levels_below_run(settings)
    shape = _shape(hashable(settings), not_shaping(type(config)), levels)
    return blake2b(json.dumps(shape, sort_keys=True).encode(), digest_size=8).hexdigest()


def check_config(
    folder: Folder, config: Any, owner: Owner, *, has_rows: Callable[[], bool] = lambda: True
) -> None:
    """Write the resolved config (a dataclass) into the folder, unless it belongs to another job,
    or rows there were made with other settings that shape rows. `has_rows`, whether there are any,
    is asked only where settings differ: it lists files.

    A damaged config.yaml is written again if input.json shows that the rows were made with the same
    settings. Raises ResumeError naming the job or each difference, and VersionError.
    """
    compare_config(folder, config, owner, has_rows=has_rows)
    claim_owner(folder, owner)
    folder.write(CONFIG, yaml.safe_dump(referenced(asdict(config)), sort_keys=False).encode())


def compare_config(
    folder: Folder, config: Any, owner: Owner, *, has_rows: Callable[[], bool] = lambda: True
) -> None:
    """Raises as `check_config` does, and changes nothing."""
    check_owner(folder, owner)
    try:
        _compare_settings(folder, config)
    except ResumeError:
        # A run that failed before its first row, for a mistyped model perhaps, is no obstacle.
        if has_rows():
            raise


def _compare_settings(folder: Folder, config: Any) -> None:
    settings = asdict(config)
    stored = _stored(folder, config)
    if stored is not None:
        free, levels = not_shaping(type(config)), levels_below_run(settings)
        old = _shape(stored, free, levels)
        new = _shape(referenced(settings), free, levels)
        differences = [
            f"  {name}: {_shown(old, name)} in the folder, {_shown(new, name)} now"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]
        if differences:
            # Every release writes all settings that it has.
            same = "set these as in the folder" if old.keys() == new.keys() else _OTHER_RELEASE
            raise ResumeError(
                f"{folder.uri} holds rows made with another config. Use another run_dir, or {same}:"
                "\n" + "\n".join(differences)
            )
        _check_mark(folder, config, new)


def _shown(shape: Mapping[str, Any], name: str) -> str:
    """A setting as a user writes it."""
    value = shape.get(name, "not set")
    return "null" if value is None else str(value)


def _check_mark(folder: Folder, config: Any, shape: Mapping[str, Any]) -> None:
    """Raises ResumeError where the files of the rows are marked with another digest although the
    configs are equal: all of them would go to quarantine.

    References to the environment stand for other numbers or words then, or another release made the
    rows, which counted other settings as shaping.
    """
    expected = read_expected(folder)
    if expected is None or expected.marks.get(CONFIG_MARK) == digest(config).encode():
        return
    if keys := valued(shape):
        raise ResumeError(
            f"{folder.uri} holds rows made with other values of {', '.join(keys)}, which come from "
            "the environment: set it as it was, or use another run_dir"
        )
    raise ResumeError(
        f"{folder.uri} holds rows of a release that compared other settings: use another run_dir, "
        "or the release that made them"
    )


def _stored(folder: Folder, config: Any) -> dict[str, Any] | None:
    """The settings in config.yaml; None if there are none, or if they are damaged and `config` is
    known to be the same. Raises ResumeError if they are damaged otherwise."""
    if not folder.exists(CONFIG):
        return None
    try:
        settings = yaml.safe_load(folder.read(CONFIG))
    except (yaml.YAMLError, ValueError, RecursionError):
        settings = None
    if isinstance(settings, dict) and all(isinstance(key, str) for key in settings):
        return settings
    expected = read_expected(folder)
    if expected is None or expected.marks.get(CONFIG_MARK) != digest(config).encode():
        raise ResumeError(
            f"{folder.uri}/{CONFIG} is damaged, and {INPUT} does not show that the rows were made "
            f"with this config: restore {CONFIG}, or use another run_dir"
        )
    return None


def levels_below_run(settings: Mapping[str, Any]) -> int:
    """How many folders `run_dir` lies below the run folder of the job that composes this run (each
    round of `nabla improve` consists of runs); 0 for a run of its own.

    Paths of a config that point into the enclosing run folder, to an earlier step's guide for
    example, are compared relative to it. So the folder can be moved as a whole.
    """
    run_dir = str(settings.get("run_dir") or "")
    if "://" in run_dir:
        return 0
    parents = Path(run_dir).expanduser().absolute().parents
    # os.path.exists: a parent that this user may not read holds no run of theirs.
    levels = (n for n, p in enumerate(parents, start=1) if os.path.exists(p / VERSION_FILE))
    return next(levels, 0)


def _shape(settings: Mapping[str, Any], free: Iterable[str], levels: int) -> dict[str, Any]:
    """The settings, flat, without those at or below the keys in `free`. Paths into the run folder
    `levels` above `run_dir` are relative to it."""
    run_dir = str(settings.get("run_dir") or "")
    components = run_dir.rstrip("/").split("/")
    enclosing = "/".join(components[:-levels]) if levels else ""
    left_out = set(free)
    below = tuple(f"{key}." for key in left_out)
    return {
        name: _relative(value, enclosing) if enclosing else value
        for name, value in _flatten(settings).items()
        if name not in left_out and not name.startswith(below)
    }


def _relative(value: Any, folder: str) -> Any:
    if isinstance(value, list):
        return [_relative(each, folder) for each in value]
    if isinstance(value, str) and value.startswith(f"{folder}/"):
        return f"{{run}}{value.removeprefix(folder)}"
    return value


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            # Read back from YAML, a tuple is a list.
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
