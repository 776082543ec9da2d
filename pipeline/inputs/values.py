"""What a field of an input holds, whatever the format of the file.

A text is a `str`, a number a `Number`, nothing (also NaN) is None, a truth value is a `bool`; lists
and objects hold such values. Whatever else a format has is `Unusable`, and is refused where a
prompt is made of it. So a column that nobody asked for fails no run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_INTEGER = re.compile(r"-?[0-9]+")


class Number(str):
    """A number of the input as its own digits: `1.10` stays `1.10`, however long it is."""

    __slots__ = ()

    @property
    def is_integer(self) -> bool:
        """Whether it is written without a point and an exponent."""
        return _INTEGER.fullmatch(self) is not None


@dataclass(frozen=True, slots=True)
class Unusable:
    """A value that cannot be carried; `reason` continues the sentence "the answer ..."."""

    reason: str


@dataclass(frozen=True, slots=True)
class Repeated(Unusable):
    """The value of a key or column that is there twice: no one can know which is meant."""

    reason: str = "is given twice"


def kind(value: Any) -> str:
    """What a value is, as the end of the sentence "the answer ..."."""
    if isinstance(value, Unusable):
        return value.reason
    if isinstance(value, Number):
        return f"is the number {value[:40]}"
    if isinstance(value, bool):
        return f"is the truth value {str(value).lower()}"
    names = {str: "is a text", list: "is a list", dict: "is an object", type(None): "is missing"}
    return names.get(type(value), f"is a {type(value).__name__}")
