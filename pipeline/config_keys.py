"""The keys of config classes, and which of them may be meant by a key that does not exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, cast, get_origin, get_type_hints

MAX_SUGGESTIONS = 6


@cache  # reading the types of a class takes a millisecond
def tree(config: type) -> Mapping[str, Any]:
    """The keys of a config class; a section's value is a dict of its keys, that of a mapping of a
    user's own names an empty one, of others None."""
    hints = get_type_hints(config)
    return {field.name: _below(hints[field.name]) for field in fields(config)}


def _below(hint: Any) -> Mapping[str, Any] | None:
    if is_dataclass(hint):
        return tree(cast(type, hint))
    return {} if get_origin(hint) is dict else None


def leaves(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys of nested settings that hold a value (or an empty section)."""
    keys: list[str] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            keys += leaves(value, f"{prefix}{key}.")
        else:
            keys.append(f"{prefix}{key}")
    return keys


def first_unknown(parts: Sequence[str], known: Mapping[str, Any]) -> int | None:
    """The index of the first part of a dotted key that is no key of the section before it."""
    node: Any = known
    for i, part in enumerate(parts):
        # Below an empty mapping every name is one: the user gives them.
        if not node:
            return None
        if part not in node:
            return i
        node = node[part]
    return None


def unknown_keys(settings: Mapping[str, Any], config: type) -> dict[str, list[str]]:
    """The dotted keys of `settings` that a config class does not have, each with those that may be
    meant."""
    known = tree(config)
    found = {}
    for key in leaves(settings):
        parts = key.split(".")
        unknown = first_unknown(parts, known)
        if unknown is not None:
            found[key] = nearest(key, config)
    return found


def misplaced(settings: Mapping[str, Any], config: type) -> dict[str, str]:
    """The keys of `settings` that are a section and hold a value, or the other way round, each
    with what would be right."""
    return dict(_misplaced(settings, tree(config), ""))


def _misplaced(
    node: Mapping[str, Any], known: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, str]]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        below = known.get(name)
        if isinstance(value, Mapping):
            if below:
                yield from _misplaced(value, below, f"{key}.")
            elif name in known and below is None and value:
                yield key, "is one value and not a section"
        # "${...}" refers to another value, which may be a section.
        elif below and isinstance(value, str | int | float | list) and "${" not in str(value):
            example = "path" if "path" in below else next(iter(below))
            yield key, f"is a section: write {key}.{example}=...; its keys are {', '.join(below)}"


def nearest(key: str, config: type) -> list[str]:
    """The dotted keys of a config class that an unknown one may mean, the best first: those that
    end like it, whatever section they are in, else one that is spelled alike."""
    return with_end(key, config) or _repaired(key, config) or _alike(key, config)


def with_end(key: str, config: type) -> list[str]:
    """The dotted keys that end with `key`, those of the outer sections first."""
    known = (other for other in _dotted(tree(config)) if other.endswith(f".{key}"))
    return sorted(known, key=lambda other: (other.count("."), other))[:MAX_SUGGESTIONS]


def _repaired(key: str, config: type) -> list[str]:
    """The key with its unknown section spelled as one that is there, if that gives a key."""
    known, parts = tree(config), key.split(".")
    unknown = first_unknown(parts, known)
    if unknown is None or unknown == len(parts) - 1:
        return []
    node: Any = known
    for part in parts[:unknown]:
        node = node[part]
    close = get_close_matches(parts[unknown], node, n=1, cutoff=0.6)
    fixed = [*parts[:unknown], *close, *parts[unknown + 1 :]]
    return [".".join(fixed)] if close and first_unknown(fixed, known) is None else []


def _alike(key: str, config: type) -> list[str]:
    # A section is no advice for a key that is meant to be in it.
    known = [other for other in _dotted(tree(config)) if not key.startswith(f"{other}.")]
    section, _, last = key.rpartition(".")
    siblings = [other for other in known if other.rpartition(".")[0] == section]
    for among, cutoff in ((siblings, 0.6), (known, 0.75)):
        # Of keys with one name the first, which is in an outer section.
        names = {other.rpartition(".")[2]: other for other in reversed(among)}
        close = get_close_matches(last, names, n=1, cutoff=cutoff)
        close = close or [name for name in names if name.startswith(f"{last}_")][:1]
        if close:
            return [names[close[0]]]
    return get_close_matches(key, known, n=1, cutoff=0.8)


def _dotted(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, below in node.items():
        yield f"{prefix}{key}"
        yield from _dotted(below or {}, f"{prefix}{key}.")


def suggestion(keys: Sequence[str]) -> str:
    """`; did you mean A or B?`, "" without keys."""
    if not keys:
        return ""
    *others, last = keys
    return f"; did you mean {', '.join(others)} or {last}?" if others else f"; did you mean {last}?"
