"""Loading settings: YAML files and `key=value` overrides become frozen dataclasses.

Imports neither torch nor ray, so that a wrong key is reported within a second.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import OmegaConf, StringNode
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pipeline.config_keys import leaves, misplaced, suggestion, unknown_keys
from pipeline.errors import ConfigError, UnknownKeyError
from pipeline.references import Reference, is_reference, referenced, remember
from pipeline.renamed_keys import renamed

C = TypeVar("C")
# A part of a dotted key: a name in double quotes, or one without dots.
_PART = re.compile(r'"([^"]+)"|([^."=]+)')
_QUOTED = re.compile(
    rf"(?P<key>(?:{_PART.pattern})(?:\.(?:{_PART.pattern}))*)=(?P<value>.*)", re.DOTALL
)


def load(cls: type[C], files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> C:
    """The config of class `cls`: its defaults, then the YAML files in their order, then the
    `key=value` overrides; what comes later wins, key by key.

    Raises ConfigError naming the key, the file or override that sets it, and the nearest valid
    key or, for a key of an earlier version, its new name. NaN, infinity and integers beyond 64
    bits are no values of any key.
    """
    merged = OmegaConf.structured(cls)
    for file in files:
        merged = _merge(cls, merged, _read(file), str(file))
    for override in overrides:
        merged = _merge(cls, merged, _parse(override), f"override {override!r}")
    config = _to_object(cls, merged)
    remember(_references(merged, asdict(cast(Any, config))))
    return config


def with_settings(config: C, settings: Mapping[str, Any], source: str) -> C:
    """A config with other values of some settings, given as nested sections; `source` names them in
    errors. Raises ConfigError as `load` does."""
    cls = type(config)
    base = OmegaConf.merge(OmegaConf.structured(cls), OmegaConf.create(asdict(cast(Any, config))))
    return _to_object(cls, _merge(cls, base, OmegaConf.create(dict(settings)), source), source)


def _to_object(cls: type[C], merged: Any, source: str = "") -> C:
    """The config as an object; `source` comes first in the message of a value that is refused."""
    named = f"{source}: " if source else ""
    try:
        config: Any = OmegaConf.to_object(merged)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{named}{_missing(merged)}: not given, and it has no default") from error
    except (ValueError, OmegaConfBaseException) as error:
        raise ConfigError(named + _first_line(error)) from error
    # Again: a value may be a reference, to an environment variable for example.
    _check_numbers(asdict(config), "the resolved config")
    if not isinstance(config, cls):
        raise TypeError(f"{cls.__name__} became a {type(config).__name__}")
    return config


def given_keys(files: Sequence[str | Path], overrides: Sequence[str]) -> set[str]:
    """The dotted keys that the files and overrides set. Raises ConfigError where one of them
    cannot be read."""
    settings = [*map(_read, files), *map(_parse, overrides)]
    # Unresolved: what an interpolation refers to may be in another file.
    return {key for one in settings for key in leaves(_plain(one))}


def _references(merged: Any, settings: Mapping[str, Any]) -> dict[str, Reference]:
    """The references to the environment in a config, with their values."""
    values = dict(_leaves(settings))
    return {
        key: Reference(
            value=values[key],
            text=text,
            free=isinstance(_node(merged, key), StringNode),
        )
        for key, text in _leaves(OmegaConf.to_container(merged))
        if is_reference(text)
    }


def _node(merged: Any, key: str) -> Any:
    """The node of a key as `_leaves` writes it. A name of the user's own may hold dots."""
    if not key:
        return merged
    if OmegaConf.is_list(merged):
        number, _, rest = key.removeprefix("[").partition("]")
        return _node(merged._get_node(int(number)), rest.removeprefix("."))
    for name in map(str, merged):
        rest = key.removeprefix(name)
        if rest != key and (not rest or rest[0] in ".["):
            found = _node(merged._get_node(name), rest.removeprefix("."))
            if found is not None:
                return found
    return None


def to_yaml(config: Any) -> str:
    """The resolved config as YAML, with its references to the environment; `load` reads it back
    to an equal one, if no URI holds a secret."""
    return OmegaConf.to_yaml(OmegaConf.create(referenced(asdict(config))))


def overrides_yaml(overrides: Mapping[str, Any]) -> str:
    """Dotted keys and values as the YAML of a config file."""
    nested = OmegaConf.create()
    for key, value in overrides.items():
        OmegaConf.update(nested, key, value)
    return OmegaConf.to_yaml(nested)


def _missing(merged: Any) -> str:
    return ", ".join(sorted(OmegaConf.missing_keys(merged)))


def _read(file: str | Path) -> Any:
    try:
        text = Path(file).read_text(encoding="utf-8")
        settings = OmegaConf.create(text)
    except OSError as error:
        raise ConfigError(f"cannot read config {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: invalid UTF-8 at byte {error.start}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {error}") from error
    except (OmegaConfBaseException, ValueError) as error:
        line = _line_of_null_key(yaml.compose(text))
        if line is not None:
            reason = f"line {line}: YAML reads this key as null; put it in quotes"
            raise ConfigError(f"{file}: {reason}") from error
        raise ConfigError(f"{file}: {_first_line(error)}") from error
    if not OmegaConf.is_dict(settings):
        raise ConfigError(f"{file}: expected a mapping of keys to values")
    return settings


def _parse(override: str) -> Any:
    key, equals, _ = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r} is not of the form key=value")
    try:
        return OmegaConf.from_dotlist([override]) if '"' not in key else _quoted(override)
    # ValueError: an integer of more digits than Python reads.
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"override {override!r}: {error}") from error


def _quoted(override: str) -> Any:
    """An override with names in double quotes, which may hold dots: arms."beta 0.5".seed=1. Raises
    ConfigError."""
    found = _QUOTED.fullmatch(override)
    if found is None:
        raise ConfigError(
            f"override {override!r} is not of the form key=value: a name in double quotes is a "
            'whole part of the key, as in arms."beta 0.5".seed=1'
        )
    value: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={found['value']}"]))
    # OmegaConf cannot write a name with a dot, so the sections are made here.
    settings = value["value"]
    for quoted, plain in reversed(_PART.findall(found["key"])):
        settings = {quoted or plain: settings}
    return OmegaConf.create(settings)


def _line_of_null_key(node: yaml.Node | None) -> int | None:
    """The line of the first key that is `null` or `~`."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:null":
                return int(key.start_mark.line) + 1
            found = _line_of_null_key(value)
            if found is not None:
                return found
    elif isinstance(node, yaml.SequenceNode):
        lines = (_line_of_null_key(value) for value in node.value)
        return next((line for line in lines if line is not None), None)
    return None


def _plain(settings: Any) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(settings)
    return {str(key): value for key, value in plain.items()}


def _merge(cls: type, merged: Any, added: Any, source: str) -> Any:
    _check_keys(cls, added, source)
    try:
        result = OmegaConf.merge(merged, added)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        reason = _first_line(error)
        named = f"{source}: {reason}" if key is None else f"{source}: {key}: {reason}"
        raise ConfigError(named) from error
    _check_numbers(OmegaConf.to_container(result), source)
    return result


def _check_keys(cls: type, added: Any, source: str) -> None:
    """Raises UnknownKeyError naming every key that the config does not have, and what may be meant;
    ConfigError where a section and a value take each other's place."""
    settings = _plain(added)
    unknown = unknown_keys(settings, cls)
    if unknown:
        old = renamed(settings, cls)
        lines = [f"{source}: {key} was renamed: write {new}" for key, new in old.items()]
        lines += [
            f"{source}: {key}: no such key{suggestion(meant)}"
            for key, meant in unknown.items()
            if not any(key == name or key.startswith(f"{name}.") for name in old)
        ]
        raise UnknownKeyError("\n".join(lines), list(unknown))
    wrong = misplaced(settings, cls)
    if wrong:
        raise ConfigError("\n".join(f"{source}: {key} {text}" for key, text in wrong.items()))


def _check_numbers(settings: Any, source: str) -> None:
    """Raises ConfigError naming the first value that is NaN, infinite or beyond 64 bits.

    Such a value passes most checks of a range, and fails hours later: in a thread that waits, in a
    generator of random numbers, in a column of 64 bits.
    """
    for key, value in _leaves(settings):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{source}: {key}: {value} is not a finite number")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ConfigError(f"{source}: {key}: an integer of more than 64 bits")


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; an element of a list is `key[n]`."""
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _leaves(below, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for n, below in enumerate(value):
            yield from _leaves(below, f"{key}[{n}]")
    else:
        yield key, value


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
