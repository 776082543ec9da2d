"""One row of an input as a prompt: which column holds what, and what a prompt must have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nabla_core.types import Message, Prompt
from pipeline.errors import InputError
from pipeline.inputs.sources import Row

PROMPT_COLUMNS = ("prompt", "problem", "question", "messages")
ID_COLUMNS = ("id", "custom_id")
ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class Columns:
    """Which column of the input holds what. null takes the first usual name that the input has.

    Attributes:
        prompt: A text or a list of messages. Usual: prompt, problem, question, messages, or the
            `body.messages` of an OpenAI batch file.
        id: A unique id. Usual: id, custom_id; without one the id is made from the content.
        answer: The expected answer. Usual: answer.
        system: A system prompt. Usual: system.
    """

    prompt: str | None = None
    id: str | None = None
    answer: str | None = None
    system: str | None = None


def to_prompt(row: Row, columns: Columns, default_system: str | None) -> Prompt:
    """The prompt of an input row; its id is "" if the row has none.

    `default_system` is the system prompt of a row without one. Raises InputError naming the row.
    """
    content = _content(row, columns.prompt)
    system = _text(row, columns.system, ("system",))
    messages: tuple[Message, ...]
    if isinstance(content, str):
        messages = ({"role": "user", "content": content},)
    else:
        messages = _messages(row, content)
        # A system message is the system prompt, unless a column gives another one.
        if messages[0]["role"] == "system":
            system = messages[0]["content"] if system is None else system
            messages = messages[1:]
    if not messages or messages[-1]["role"] != "user":
        raise InputError(f"{row.location}: the last message must be the user's")
    if not messages[-1]["content"].strip():
        raise InputError(f"{row.location}: empty prompt")
    prompt = Prompt(
        id=_text(row, columns.id, ID_COLUMNS) or "",
        messages=messages,
        system=default_system if system is None else system,
        answer=_text(row, columns.answer, ("answer",)),
    )
    _check_encodable(row, prompt)
    return prompt


def _check_encodable(row: Row, prompt: Prompt) -> None:
    """Refuse half of a surrogate pair: JSON can express it ("\\ud83d"), UTF-8 and Parquet cannot,
    and the run would fail at its first commit.
    """
    contents = ((f"message {n}", m["content"]) for n, m in enumerate(prompt.messages, start=1))
    fields = (("id", prompt.id), ("system", prompt.system), ("answer", prompt.answer))
    for name, value in (*contents, *fields):
        text = value or ""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{row.location}: {name} holds {text[error.start]!a} at character {error.start}, "
                "half of a surrogate pair (an emoji cut in two?)"
            ) from error


def _content(row: Row, column: str | None) -> Any:
    if column is not None:
        _require(row, column)
        return row.values[column]
    for name in PROMPT_COLUMNS:
        if row.values.get(name) is not None:
            return row.values[name]
    # A line of an OpenAI batch file is a request; its body holds the conversation.
    body = row.values.get("body")
    if isinstance(body, dict) and "messages" in body:
        return body["messages"]
    present = [name for name in PROMPT_COLUMNS if name in row.values]
    if present:
        raise InputError(f"{row.location}: empty prompt (column {present[0]} is null)")
    raise InputError(
        f"{row.location}: no prompt column ({', '.join(PROMPT_COLUMNS)}); the columns are "
        f"{', '.join(sorted(row.values))}; set prompts.columns.prompt"
    )


def _messages(row: Row, content: Any) -> tuple[Message, ...]:
    if not isinstance(content, list) or not content:
        raise InputError(f"{row.location}: empty prompt or not a text or list of messages")
    for turn in content:
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            raise InputError(f"{row.location}: a message must have a role and a text as content")
        if turn.get("role") not in ROLES:
            known = ", ".join(ROLES)
            raise InputError(f"{row.location}: role {turn.get('role')!r} is none of {known}")
    return tuple({"role": turn["role"], "content": turn["content"]} for turn in content)


def _text(row: Row, column: str | None, usual: tuple[str, ...]) -> str | None:
    if column is not None:
        _require(row, column)
    for name in (column,) if column is not None else usual:
        value = row.values.get(name)
        if value is not None:
            # Ids and answers may be numbers in the input.
            return str(value)
    return None


def _require(row: Row, column: str) -> None:
    if column not in row.values:
        columns = ", ".join(sorted(row.values))
        raise InputError(f"{row.location}: no column {column!r}; the columns are {columns}")
