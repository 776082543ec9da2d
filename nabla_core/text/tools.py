"""Tools of a prompt, and calls of them in its turns, as chat templates take them: JSON values.

A tool is the JSON Schema of a function: `{"type": "function", "function": {"name": ...}}`, or the
inner object itself. A call has the same two forms, with `name` and `arguments`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from nabla_core.types import Message

# Templates read these keys by name, so they are never taken for words of the user.
_STRUCTURE = frozenset(
    {
        *("type", "function", "name", "description", "parameters", "arguments", "id"),
        *("properties", "required", "items", "enum", "default", "return"),
    }
)
# Beside the content, what a turn may hold.
_MORE = ("tool_calls", "name", "tool_call_id")


def function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a tool or a call that has the name."""
    inner = tool.get("function")
    return inner if isinstance(inner, Mapping) else tool


def names_of(tools: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of the functions of tools or calls."""
    return [str(function_of(tool).get("name")) for tool in tools]


def texts_in(value: Any) -> Iterator[str]:
    """All texts of a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, below in value.items():
            if key not in _STRUCTURE:
                yield key
            yield from texts_in(below)
    elif isinstance(value, list | tuple):
        for below in value:
            yield from texts_in(below)


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with all texts of `texts_in` changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {
            key if key in _STRUCTURE else change(key): with_texts(below, change)
            for key, below in value.items()
        }
    if isinstance(value, list | tuple):
        return [with_texts(below, change) for below in value]
    return value


def texts_of_turn(turn: Message) -> Iterator[str]:
    """All texts of a turn but its role."""
    yield turn["content"]
    for field in _MORE:
        yield from texts_in(turn.get(field))


def turn_with_texts(turn: Message, change: Callable[[str], str]) -> Message:
    """A turn with all texts of `texts_of_turn` changed."""
    made: dict[str, Any] = {"role": turn["role"], "content": change(turn["content"])}
    for field in _MORE:
        if field in turn:
            made[field] = with_texts(turn[field], change)  # type: ignore[literal-required]
    return made  # type: ignore[return-value]


def marker_tool(name: str, description: str) -> dict[str, Any]:
    """A tool to see with whether a template writes tools."""
    properties = {"value": {"type": "string", "description": "a value"}}
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {"type": "object", "properties": properties, "required": ["value"]},
        },
    }


def marker_turn(turn: Message, content: str, calls: str, ids: dict[str, str]) -> Message:
    """A turn of the form of this one with markers in place of its texts. Ids of calls, collected in
    `ids`, are nine letters and digits, as some templates want them."""
    made = dict(turn)
    if turn["content"].strip() or not turn.get("tool_calls"):
        made["content"] = content
    if "tool_calls" in turn:
        made["tool_calls"] = [
            _marker_call(call, f"{calls}{n}", ids) for n, call in enumerate(turn["tool_calls"])
        ]
    if "tool_call_id" in turn:
        made["tool_call_id"] = _marker_id(turn["tool_call_id"], ids)
    if "name" in turn:
        made["name"] = "tool"
    return made  # type: ignore[return-value]


def _marker_call(call: Mapping[str, Any], mark: str, ids: dict[str, str]) -> dict[str, Any]:
    made = {"name": f"{mark}name", "arguments": {f"{mark}key": f"{mark}value"}}
    whole: dict[str, Any] = {"type": "function", "function": made} if "function" in call else made
    return {"id": _marker_id(call["id"], ids), **whole} if "id" in call else whole


def _marker_id(name: str, ids: dict[str, str]) -> str:
    return ids.setdefault(name, f"call{len(ids):05d}")


def form_of(turn: Message) -> tuple[Any, ...]:
    """Equal for turns that templates treat alike: role, which fields, and how many calls."""
    calls = turn.get("tool_calls", ())
    written = bool(turn["content"].strip()) or not calls
    return turn["role"], written, tuple("function" in c for c in calls), *(f in turn for f in _MORE)


def missing_call(turn: Message, text: str) -> str | None:
    """The name of the first call of a turn that a rendering does not hold."""
    return next((n for n in names_of(turn.get("tool_calls", ())) if n not in text), None)
