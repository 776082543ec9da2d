"""Loading settings: YAML files and `key=value` overrides become frozen dataclasses.

Imports neither torch nor ray, so that a wrong key is reported within a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.errors import ConfigError
from pipeline.renamed_keys import renamed

C = TypeVar("C")


def load(cls: type[C], files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> C:
    """The config of class `cls`: its defaults, then the YAML files in their order, then the
    `key=value` overrides; what comes later wins, key by key.

    Raises ConfigError naming the key, the file or override that sets it, and the nearest valid
    key or, for a key of an earlier version, its new name.
    """
    merged = OmegaConf.structured(cls)
    for file in files:
        merged = _merge(cls, merged, _read(file), str(file))
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {override!r} is not of the form key=value")
        try:
            given = OmegaConf.from_dotlist([override])
        except (yaml.YAMLError, OmegaConfBaseException) as error:
            raise ConfigError(f"override {override!r}: {error}") from error
        merged = _merge(cls, merged, given, f"override {override!r}")
    try:
        config: Any = OmegaConf.to_object(merged)
    except (ValueError, OmegaConfBaseException) as error:
        raise ConfigError(_first_line(error)) from error
    if not isinstance(config, cls):
        raise TypeError(f"{cls.__name__} became a {type(config).__name__}")
    return config


def to_yaml(config: Any) -> str:
    """The resolved config as YAML; `load` reads it back to an equal one."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def overrides_yaml(overrides: Mapping[str, Any]) -> str:
    """Dotted keys and values as the YAML of a config file."""
    nested = OmegaConf.create()
    for key, value in overrides.items():
        OmegaConf.update(nested, key, value)
    return OmegaConf.to_yaml(nested)


def _read(file: str | Path) -> Any:
    try:
        text = Path(file).read_text(encoding="utf-8")
        given = OmegaConf.create(text)
    except OSError as error:
        raise ConfigError(f"cannot read config {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: invalid UTF-8 at byte {error.start}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {error}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{file}: {_first_line(error)}") from error
    if not OmegaConf.is_dict(given):
        raise ConfigError(f"{file}: expected a mapping of keys to values")
    return given


def _merge(cls: type, merged: Any, given: Any, source: str) -> Any:
    try:
        return OmegaConf.merge(merged, given)
    except OmegaConfBaseException as error:
        settings: Any = OmegaConf.to_container(given)
        old = renamed(settings, cls)
        if old:
            lines = [f"{source}: {key} was renamed: write {new}" for key, new in old.items()]
            raise ConfigError("\n".join(lines)) from error
        key = getattr(error, "full_key", None)
        reason = _first_line(error)
        named = f"{source}: {reason}" if key is None else f"{source}: {key}: {reason}"
        raise ConfigError(named) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
