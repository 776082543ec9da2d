"""Tools and calls of tools as inputs hold them, and as chat templates take them: JSON values.

A tool is the JSON Schema of a function, `{"type": "function", "function": {"name": ...}}` or the
inner object itself. Its arguments in a call are an object, or as OpenAI writes them the JSON text
of one, which becomes the object: templates write it themselves.
"""

from __future__ import annotations

import json
import math
from typing import Any

from pipeline.errors import InputError
from pipeline.inputs.json_values import NestedTooDeep, decode
from pipeline.inputs.values import Number, Unusable, kind
from pipeline.printable import shown, visible


def tools_of(location: str, column: str, value: Any) -> tuple[dict[str, Any], ...] | None:
    """The tools in a column; None where it holds none. Raises InputError naming the place."""
    where = f"{location}: the tools (column {visible(column)})"
    value = _from_text(where, value)
    # Null and empty lists say nothing.
    if value is None or value in ([], {}, ""):
        return None
    if not isinstance(value, list):
        raise InputError(
            f"{where} {_are(value)}, not a list of JSON Schemas; rename the column if it holds "
            "something else"
        )
    return tuple(_tool(f"{location}: tool {n}", tool) for n, tool in enumerate(value, start=1))


def calls_of(location: str, value: Any) -> list[dict[str, Any]]:
    """The calls of an assistant's turn. Raises InputError naming the place."""
    value = _from_text(f"{location}: tool_calls", value)
    if not isinstance(value, list):
        raise InputError(f"{location}: tool_calls {_are(value)}, not a list of calls")
    return [_call(f"{location}: tool call {n}", call) for n, call in enumerate(value, start=1)]


def required_text(location: str, what: str, value: Any) -> str:
    """The value, if it is a text. Raises InputError."""
    if not isinstance(value, str) or isinstance(value, Number):
        raise InputError(f"{location}: the {what} {kind(value)}, not a text")
    return value


def _tool(where: str, value: Any) -> dict[str, Any]:
    tool = _object(where, value)
    function = tool.get("function", tool)
    _require_name(where, function)
    if (parameters := function.get("parameters")) is not None and not isinstance(parameters, dict):
        raise InputError(f"{where}: parameters {kind(parameters)}, not a JSON Schema (an object)")
    made: dict[str, Any] = _plain(where, tool)
    return made


def _call(where: str, value: Any) -> dict[str, Any]:
    call = _object(where, value)
    if call.get("id") is not None:
        required_text(where, "id", call["id"])
    function = call.get("function", call)
    _require_name(where, function)
    arguments = _from_text(f"{where}: the arguments", function.get("arguments"))
    if arguments is None or arguments == "":
        arguments = {}
    if not isinstance(arguments, dict):
        raise InputError(f"{where}: the arguments {_are(arguments)}, not an object or JSON of one")
    whole = {**function, "arguments": arguments}
    made: dict[str, Any] = _plain(
        where, {**call, "function": whole} if "function" in call else whole
    )
    return made


def _object(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} {kind(value)}, not an object")
    return value


def _require_name(where: str, function: Any) -> None:
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or isinstance(name, Number) or not name.strip():
        raise InputError(
            f"{where} has no name: it is an object with a name, or with a function that has one"
        )


def _from_text(where: str, value: Any) -> Any:
    """A value; that of a JSON text where it is one."""
    if not isinstance(value, str) or isinstance(value, Number) or not value.strip():
        return "" if isinstance(value, str) and not value.strip() else value
    try:
        return decode(value)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: malformed JSON, character {error.pos + 1}: {error.msg}: {shown(value[:60])}"
        ) from error
    except (NestedTooDeep, RecursionError) as error:
        raise InputError(f"{where}: {NestedTooDeep()}") from error


def _plain(where: str, value: Any) -> Any:
    """A value of an input as JSON gives it to anyone: numbers are numbers."""
    if isinstance(value, Number):
        number = int(value) if value.is_integer else float(value)
        if isinstance(number, float) and not math.isfinite(number):
            raise InputError(f"{where} holds the number {value[:40]}, which is too large")
        return number
    if isinstance(value, Unusable):
        raise InputError(f"{where}: a value {value.reason}")
    if isinstance(value, dict):
        for key, below in value.items():
            if isinstance(below, Unusable):
                raise InputError(f"{where}: {visible(key)} {below.reason}")
        return {key: _plain(where, below) for key, below in value.items()}
    if isinstance(value, list):
        return [_plain(where, below) for below in value]
    return value


def _are(value: Any) -> str:
    """What values are, as the end of the sentence "the tools ..."."""
    sentence = kind(value)
    return "are" + sentence[2:] if sentence.startswith("is ") else sentence
