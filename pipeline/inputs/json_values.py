"""JSON as values of an input: digits of numbers are kept, and nothing wins silently."""

from __future__ import annotations

import json
import re
from typing import Any

from pipeline.inputs.values import Number, Repeated, Unusable

# Python's decoder calls itself for each level, and its own limit depends on who calls it.
MAX_DEPTH = 200
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class NestedTooDeep(ValueError):
    """A text of more than `MAX_DEPTH` levels of brackets."""

    def __init__(self) -> None:
        super().__init__(f"lists and objects are nested more than {MAX_DEPTH} levels deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                values[key] = Repeated()
            seen.add(key)
    return values


def _constant(name: str) -> Unusable | None:
    # JSON has none of these. Python and pandas write NaN where a number is missing.
    return None if name == "NaN" else Unusable(f"is {name}")


DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=Number, parse_float=Number, parse_constant=_constant
)


def check_depth(text: str) -> None:
    """Raises NestedTooDeep."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKENS.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise NestedTooDeep
        elif token[0] in "]}":
            depth -= 1


def decode(text: str) -> Any:
    """The value of a JSON text. Raises json.JSONDecodeError and NestedTooDeep."""
    check_depth(text)
    return DECODER.decode(text)
