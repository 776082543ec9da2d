"""Values that a config takes from the environment, and secrets in URIs: neither is written or
printed.

`${oc.env:NAME}` in a config stands for a secret, or for what differs from machine to machine. So
files and messages show the reference in place of its value. The loader of configs enters the
references of this process here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

# `s3://KEY:SECRET@bucket`. A name alone is no secret, and in `abfs://` it is a container.
_USER_INFO = re.compile(r"(\b[a-zA-Z][\w+.-]*://)([^\s/:@?]*:[^\s@]*)@")
_PARTS = re.compile(r"\$\{[^}]*\}|[^:$]+")
_NAMES = "token|secret|signature|sig|password|credential|key"
_QUERY_SECRET = re.compile(rf"([?&][\w.-]*(?:{_NAMES})[\w.-]*=)(?!\$\{{)[^&\s'\"]+", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{\s*oc\.env:\s*([\w.-]+)")
# Fields of manifests and cards with words of this program: other files are checked against them.
_OWN = ("schema", "kind", "config_hash", "commit", "versions", "checksums")
# Shorter values, and numbers, occur in any text.
_SHORTEST = 4
_NUMBER = re.compile(r"[\d.eE+-]+|true|false|null|none", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The value of a config key that holds a reference, and the reference. `free`: the value is a
    free text, such as a path, and neither a number nor one of a few words."""

    value: Any
    text: str
    free: bool


# By dotted key and value; an element of a list is `key[n]`. A process may load several configs.
_REFERENCES: dict[tuple[str, Any], Reference] = {}


def is_reference(text: Any) -> bool:
    """Whether an unresolved value refers to the environment."""
    return isinstance(text, str) and _VARIABLE.search(text) is not None


def remember(references: Mapping[str, Reference]) -> None:
    """Enter the references of a config that was loaded, by dotted key."""
    _REFERENCES.update({(key, one.value): one for key, one in references.items()})


def shown_uri(uri: str) -> str:
    """A path or URI as messages and files may show it: names and passwords before the host, and
    parts of the query that grant access, are hidden."""
    return _QUERY_SECRET.sub(r"\1***", _USER_INFO.sub(_hidden, uri))


def _hidden(match: re.Match[str]) -> str:
    scheme, secret = match.groups()
    if "${" not in secret:
        return f"{scheme}***@"
    # A reference tells nothing, and a config needs it to be read again.
    return scheme + _PARTS.sub(lambda p: p[0] if p[0].startswith("$") else "***", secret) + "@"


def referenced(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings as they are written: references in place of their values, paths below a
    referenced path with the reference, and no secrets in URIs."""
    return {key: _map(value, key, _written) for key, value in settings.items()}


def hashable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As `referenced`, with the values of numbers and of fixed words: these are no secrets, and a
    run with other ones is another run."""
    return {key: _map(value, key, _hashed) for key, value in settings.items()}


def valued(settings: Mapping[str, Any]) -> list[str]:
    """The keys of flat settings, as they are written, that refer to numbers or fixed words."""
    return sorted(
        {
            key
            for (key, _), reference in _REFERENCES.items()
            if not reference.free and settings.get(key) == reference.text
        }
    )


def redacted(value: Any) -> Any:
    """A text, or nested lists and mappings of texts, without the values of references and without
    secrets in URIs. Keys stay, and so do the fields of a manifest or card in `_OWN`."""
    if isinstance(value, str):
        for secret, text in _secrets():
            value = re.sub(secret, text.replace("\\", r"\\"), value)
        return shown_uri(value)
    if isinstance(value, Mapping):
        return {key: each if key in _OWN else redacted(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    return value


def _secrets() -> list[tuple[str, str]]:
    """Patterns of values, and the references in their place; the longest first."""
    found: dict[str, str] = {}
    for reference in _REFERENCES.values():
        for name in _VARIABLE.findall(reference.text):
            found[os.environ.get(name, "")] = f"${{oc.env:{name}}}"
        if isinstance(reference.value, str):
            found[reference.value] = reference.text
    for value, text in list(found.items()):
        # Libraries show a URI with or without its escapes.
        for form in (quote(value, safe=""), quote(value), unquote(value)):
            found.setdefault(form, text)
    values = [v for v in found if len(v) >= _SHORTEST and not _NUMBER.fullmatch(v)]
    return [(_pattern(v), found[v]) for v in sorted(values, key=len, reverse=True)]


def _pattern(value: str) -> str:
    escaped = re.escape(value)
    # A word such as `test` is also a part of other words.
    return rf"(?<!\w){escaped}(?!\w)" if value.isalnum() and len(value) < 8 else escaped


def _map(value: Any, key: str, change: Callable[[str, Any], Any]) -> Any:
    if isinstance(value, Mapping):
        return {name: _map(each, f"{key}.{name}", change) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_map(each, f"{key}[{n}]", change) for n, each in enumerate(value)]
    return change(key, value)


def _written(key: str, value: Any) -> Any:
    own = _REFERENCES.get((key, value))
    if own is not None:
        return shown_uri(own.text)
    if not isinstance(value, str):
        return value
    for reference in _REFERENCES.values():
        # A job that composes others gives its paths to them, under other keys.
        if isinstance(reference.value, str) and "/" in reference.value:
            base = reference.value.rstrip("/")
            if value == reference.value or value.startswith(f"{base}/"):
                return shown_uri(reference.text.rstrip("/") + value[len(base) :])
    return shown_uri(value)


def _hashed(key: str, value: Any) -> Any:
    own = _REFERENCES.get((key, value))
    return value if own is not None and not own.free else _written(key, value)
