"""One row of an input as a prompt: which column holds what, and what a prompt must have.

What a prompt would not carry as it is given is refused, by the place of the row and its column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nabla_core.text.tools import texts_in, texts_of_turn
from nabla_core.types import Message, Prompt
from pipeline.errors import InputError
from pipeline.inputs.file import Row
from pipeline.inputs.tools import calls_of, required_text, tools_of
from pipeline.inputs.values import Number, Repeated, kind
from pipeline.printable import listed, shown, visible

PROMPT_COLUMNS = ("prompt", "problem", "question", "messages")
ID_COLUMNS = ("id", "custom_id")
# A line of an OpenAI batch file is a request; its body holds the conversation.
BODY = "body"
TOOLS = "tools"
# What OpenAI called tools before; see `_refuse_functions`.
FUNCTIONS = "functions"
ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class Columns:
    """Which column of the input holds what. null takes the usual name that the input has.

    Attributes:
        prompt: A text or a list of messages. Usual: prompt, problem, question, messages, or the
            `body.messages` of an OpenAI batch file. A row with two of them is refused.
        id: A unique id: a text or an integer. Usual: id, custom_id; without one the id is made from
            the content.
        answer: The expected answer: a text, or a number, which keeps its digits. Usual: answer.
        system: A system prompt. Usual: system.
        tools: The functions that a model may call: a list of JSON Schemas, or a JSON text of one.
            Usual: tools, or the `body.tools` of an OpenAI batch file.
    """

    prompt: str | None = None
    id: str | None = None
    answer: str | None = None
    system: str | None = None
    tools: str | None = None

    def wanted(self) -> frozenset[str]:
        """All columns that a prompt can be made of."""
        usual = (
            (self.prompt, (*PROMPT_COLUMNS, BODY)),
            (self.id, ID_COLUMNS),
            (self.answer, ("answer",)),
            (self.system, ("system",)),
            (self.tools, (TOOLS,)),
            (None, (FUNCTIONS,)),
        )
        return frozenset(
            name for given, names in usual for name in (names if given is None else (given,))
        )


def to_prompt(row: Row, columns: Columns, default_system: str | None) -> Prompt:
    """The prompt of an input row; its id is "" if the row has none.

    `default_system` is the system prompt of a row without one. Raises InputError naming the row.
    """
    name, content = _content(row, columns.prompt)
    system = _text(row, "system prompt", columns.system, ("system",), numbers=False)
    messages: tuple[Message, ...]
    if isinstance(content, list):
        messages = _messages(row, name, content)
        _refuse_functions(row, row.values, "")
        if messages[0]["role"] == "system":
            if system is not None:
                raise InputError(
                    f"{row.location}: a system column and a system message: remove one of them"
                )
            system = messages[0]["content"]
            messages = messages[1:]
    elif isinstance(content, str) and not isinstance(content, Number) and _may_be_text(name):
        messages = ({"role": "user", "content": content},)
    else:
        wanted = "a text or a list of messages" if _may_be_text(name) else "a list of messages"
        raise InputError(f"{row.location}: {visible(name)} {kind(content)}, not {wanted}")
    if not messages or messages[-1]["role"] not in ("user", "tool"):
        raise InputError(
            f"{row.location}: the last message must be the user's, or the result of a tool"
        )
    if messages[-1]["role"] == "user" and not messages[-1]["content"].strip():
        raise InputError(f"{row.location}: empty prompt")
    answer = _text(row, "answer", columns.answer, ("answer",), numbers=True)
    prompt = Prompt(
        id=_id(row, columns.id),
        messages=messages,
        system=default_system if system is None else system,
        answer=None if answer is None else str(answer),
        tools=_tools(row, columns.tools),
    )
    _check_encodable(row, prompt)
    return prompt


def mapped(row: Row, columns: Columns) -> dict[str, str]:
    """Which column of a row holds what; what none holds is not named. Raises InputError where the
    row has no prompt."""
    found = {"prompt": _content(row, columns.prompt)[0]}
    for role, given, usual in (
        ("id", columns.id, ID_COLUMNS),
        ("answer", columns.answer, ("answer",)),
        ("system", columns.system, ("system",)),
        ("tools", columns.tools, (TOOLS,)),
    ):
        names = usual if given is None else (given,)
        held = [name for name in names if row.values.get(name) is not None]
        if held:
            found[role] = held[0]
    if found["prompt"] == f"{BODY}.messages" and row.values[BODY].get(TOOLS):
        found["tools"] = f"{BODY}.{TOOLS}"
    return found


def _check_encodable(row: Row, prompt: Prompt) -> None:
    """Refuse half of a surrogate pair: JSON can express it ("\\ud83d"), UTF-8 and Parquet cannot,
    and the run would fail at its first commit.
    """
    contents = (
        (f"message {n}", text)
        for n, turn in enumerate(prompt.messages, start=1)
        for text in texts_of_turn(turn)
    )
    tools = (("tools", text) for text in texts_in(prompt.tools))
    fields = (("id", prompt.id), ("system", prompt.system), ("answer", prompt.answer))
    for name, value in (*contents, *tools, *fields):
        text = value or ""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{row.location}: {name} holds {text[error.start]!a} at character {error.start}, "
                "half of a surrogate pair (an emoji cut in two?)"
            ) from error


def _content(row: Row, column: str | None) -> tuple[str, Any]:
    """The column of the prompt and what it holds."""
    if column is not None:
        _require(row, column)
        return column, row.values[column]
    given = [(n, row.values[n]) for n in PROMPT_COLUMNS if row.values.get(n) is not None]
    body = row.values.get(BODY)
    if isinstance(body, Repeated):
        raise InputError(f"{row.location}: {BODY} {kind(body)}")
    if isinstance(body, dict) and body.get("messages") is not None:
        _refuse_functions(row, body, f"{BODY}.")
        given.append((f"{BODY}.messages", body["messages"]))
    if len(given) > 1:
        names = " and ".join(name for name, _ in given)
        raise InputError(
            f"{row.location}: {names} hold a prompt each: set prompts.columns.prompt to the one "
            "that is meant"
        )
    if given:
        return given[0]
    present = [name for name in PROMPT_COLUMNS if name in row.names]
    if present:
        raise InputError(f"{row.location}: empty prompt (column {present[0]} is null)")
    raise InputError(
        f"{row.location}: no prompt column ({', '.join(PROMPT_COLUMNS)}); the columns are "
        f"{listed(sorted(row.names))}; set prompts.columns.prompt"
    )


def _may_be_text(column: str) -> bool:
    # A text there is a conversation that was written as JSON, in a CSV file for example.
    return column not in ("messages", f"{BODY}.messages")


def _messages(row: Row, column: str, content: list[Any]) -> tuple[Message, ...]:
    if not content:
        raise InputError(f"{row.location}: empty prompt ({visible(column)} holds no message)")
    return tuple(_message(f"{row.location}: message {n}", m) for n, m in enumerate(content, 1))


def _message(location: str, turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise InputError(f"{location} {kind(turn)}: a message must have a role and a content")
    text, role = turn.get("content"), turn.get("role")
    carried = {"assistant": ("tool_calls",), "tool": ("name", "tool_call_id")}
    # Null and empty fields say nothing: tables have every field in every message.
    more = {
        key: value
        for key, value in turn.items()
        if key not in ("role", "content") and value not in (None, "", [], {})
    }
    known = carried.get(role, ()) if isinstance(role, str) else ()
    if unknown := [key for key in more if key not in known]:
        raise InputError(
            f"{location} has {listed(unknown)}, which no prompt carries: a message is a role and a "
            "text, with tool_calls (assistant) or name and tool_call_id (tool); remove the rest"
        )
    if text is None and "tool_calls" in more:
        text = ""
    if not isinstance(text, str) or isinstance(text, Number):
        raise InputError(
            f"{location}: the content {kind(text)}: a message must have a role and a text as "
            "content"
        )
    if not isinstance(role, str) or role not in ROLES:
        given = shown(role) if isinstance(role, str) else kind(role)
        raise InputError(f"{location}: role {given} is none of {', '.join(ROLES)}")
    made: Message = {"role": role, "content": text}
    if "tool_calls" in more:
        made["tool_calls"] = calls_of(location, more["tool_calls"])
    if "name" in more:
        made["name"] = required_text(location, "name", more["name"])
    if "tool_call_id" in more:
        made["tool_call_id"] = required_text(location, "tool_call_id", more["tool_call_id"])
    return made


def _refuse_functions(row: Row, values: Any, prefix: str) -> None:
    """Refuse the older form of tools beside a conversation: a template would not be told."""
    if values.get(FUNCTIONS):
        raise InputError(
            f"{row.location}: {prefix}{FUNCTIONS}: give them as {prefix}{TOOLS}: a list of "
            '{"type": "function", "function": ...}'
        )


def _tools(row: Row, column: str | None) -> tuple[dict[str, Any], ...] | None:
    """The tools of a row; None where it has none."""
    if column is not None:
        _require(row, column)
        return tools_of(row.location, column, row.values[column])
    body = row.values.get(BODY)
    inside = body.get(TOOLS) if isinstance(body, dict) else None
    given = {TOOLS: row.values.get(TOOLS), f"{BODY}.{TOOLS}": inside}
    found = {name: tools_of(row.location, name, value) for name, value in given.items()}
    held = [name for name, tools in found.items() if tools is not None]
    if len(held) > 1:
        raise InputError(f"{row.location}: {' and '.join(held)} hold tools each: remove one")
    return found[held[0]] if held else None


def _id(row: Row, column: str | None) -> str:
    given = {
        name: row.values.get(name)
        for name in ((column,) if column is not None else ID_COLUMNS)
        if row.values.get(name) is not None
    }
    if len(given) > 1 and len(set(map(repr, given.values()))) > 1:
        raise InputError(f"{row.location}: {' and '.join(given)} differ: set prompts.columns.id")
    found = _text(row, "id", column, ID_COLUMNS, numbers=True)
    if found is None:
        return ""
    if not found:
        raise InputError(f"{row.location}: the id is empty; a row without one has null")
    if isinstance(found, Number) and not found.is_integer:
        raise InputError(f"{row.location}: the id {kind(found)}; an id is a text or an integer")
    return str(found)


def _text(
    row: Row, what: str, column: str | None, usual: tuple[str, ...], *, numbers: bool
) -> str | None:
    """The text in the column, or in the first usual one that has a value. `numbers`: a number is
    as good as its digits."""
    if column is not None:
        _require(row, column)
    for name in (column,) if column is not None else usual:
        value = row.values.get(name)
        if value is None:
            continue
        if not isinstance(value, str) or (isinstance(value, Number) and not numbers):
            allowed = "a text or a number" if numbers else "a text"
            raise InputError(
                f"{row.location}: the {what} (column {visible(name)}) {kind(value)}, not {allowed}"
            )
        return value
    return None


def _require(row: Row, column: str) -> None:
    if column not in row.names:
        raise InputError(
            f"{row.location}: no column {shown(column)}; the columns are "
            f"{listed(sorted(row.names))}"
        )
