"""Prompts in: the embedded task, JSONL, Parquet, Hugging Face datasets; stable ids out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import Any

from nabla_core.embedded import task
from nabla_core.types import Message, Prompt
from pipeline.errors import InputError
from pipeline.inputs.sources import Row, rows

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


@dataclass(frozen=True)
class Prompts:
    """Where prompts come from.

    Attributes:
        path: `embedded` (the embedded task), a .jsonl or .parquet file (.gz too) or a folder of
            them, a dataset saved by `save_to_disk`, or the id of a dataset on the Hugging Face hub.
            Files may be any URI that pyarrow or fsspec opens.
        split: The split of a hub dataset or of the embedded task (train, validation, test).
        name: The configuration of a hub dataset.
        revision: Branch, tag or commit of a hub dataset.
        skip (prompts): Leaves out the first prompts, this many.
        limit (prompts): Takes this many of the others; null: all, or 64 of the embedded task, which
            is endless.
        seed: Chooses the prompts of the embedded task.
        system: A system prompt for conversations that have none.
        columns: Which column of the input holds what.
    """

    path: str = "embedded"
    split: str | None = None
    name: str | None = None
    revision: str | None = None
    skip: int = 0
    limit: int | None = None
    seed: int = 0
    system: str | None = None
    columns: Columns = field(default_factory=Columns)

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"prompts.limit must be at least 1, got {self.limit}")
        if self.skip < 0:
            raise ValueError(f"prompts.skip must be at least 0, got {self.skip}")


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt to work on, and the fingerprint of what it says."""

    prompt: Prompt
    fingerprint: str


def read(settings: Prompts) -> Iterator[Item]:
    """The prompts in the order of their source, sample 0 each; streams.

    A row without an id gets one from its content and from how often the same content came
    before it: repeated prompts are kept, and inserting or appending rows changes no id.
    Raises InputError naming file and row.
    """
    end = None if settings.limit is None else settings.skip + settings.limit
    empty = True
    for item in islice(_items(settings), settings.skip, end):
        empty = False
        yield item
    if empty:
        after = f" after the first {settings.skip}" if settings.skip else ""
        raise InputError(f"{settings.path}: no prompts{after}")


def _items(settings: Prompts) -> Iterator[Item]:
    seen: Counter[str] = Counter()
    for row in _source(settings):
        if isinstance(row, Prompt):
            yield Item(row, fingerprint(row))
            continue
        prompt = _prompt(row, settings)
        if not prompt.id:
            digest = _digest(prompt.messages, prompt.system)
            seen[digest] += 1
            repeat = f"-{seen[digest] - 1}" if seen[digest] > 1 else ""
            prompt = Prompt(digest + repeat, prompt.messages, prompt.system, prompt.answer)
        yield Item(prompt, fingerprint(prompt))


def index(items: Iterable[Item], path: str) -> dict[str, str]:
    """Fingerprint by prompt id, in order. Refuses ids that occur twice, naming three."""
    found: dict[str, str] = {}
    twice: dict[str, None] = {}
    for item in items:
        if item.prompt.id in found:
            twice[item.prompt.id] = None
        found[item.prompt.id] = item.fingerprint
    if twice:
        first = ", ".join(repr(i) for i in list(twice)[:3])
        raise InputError(f"{path}: {len(twice)} ids occur more than once: {first}")
    return found


def content_key(prompt: Prompt) -> str:
    """16 hex digits of what the LM is asked: whatever its id, and whether an answer is known."""
    return _digest(prompt.messages, prompt.system)


def fingerprint(prompt: Prompt) -> str:
    """16 hex digits of everything a row says, its id aside."""
    return _digest(prompt.messages, prompt.system, prompt.answer)


def _source(settings: Prompts) -> Iterable[Row | Prompt]:
    if settings.path != "embedded":
        return rows(settings.path, settings.name, settings.split, settings.revision)
    try:
        return task.prompts(
            settings.skip + (settings.limit or 64),
            seed=settings.seed,
            split=settings.split or "test",  # type: ignore[arg-type]
        )
    except ValueError as error:
        raise InputError(f"prompts.split: {error}") from error


def _prompt(row: Row, settings: Prompts) -> Prompt:
    columns = settings.columns
    content = _content(row, columns.prompt)
    system = _text(row, columns.system, ("system",))
    messages: tuple[Message, ...]
    if isinstance(content, str):
        messages = ({"role": "user", "content": content},)
    else:
        messages = _messages(row, content)
        if messages[0]["role"] == "system":
            system = messages[0]["content"] if system is None else system
            messages = messages[1:]
    if not messages or messages[-1]["role"] != "user":
        raise InputError(f"{row.where}: the last message must be the user's")
    if not messages[-1]["content"].strip():
        raise InputError(f"{row.where}: empty prompt")
    prompt = Prompt(
        id=_text(row, columns.id, ID_COLUMNS) or "",
        messages=messages,
        system=settings.system if system is None else system,
        answer=_text(row, columns.answer, ("answer",)),
    )
    _encodable(row, prompt)
    return prompt


def _encodable(row: Row, prompt: Prompt) -> None:
    """JSON can spell half of a surrogate pair, which no file of ours could hold."""
    contents = ((f"message {n}", m["content"]) for n, m in enumerate(prompt.messages, start=1))
    others = (("id", prompt.id), ("system", prompt.system), ("answer", prompt.answer))
    for name, given in (*contents, *others):
        text = given or ""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{row.where}: {name} holds {text[error.start]!a} at character {error.start}, "
                "half of a surrogate pair (an emoji cut in two?)"
            ) from error


def _content(row: Row, column: str | None) -> Any:
    if column is not None:
        _require(row, column)
        return row.values[column]
    for name in PROMPT_COLUMNS:
        if row.values.get(name) is not None:
            return row.values[name]
    body = row.values.get("body")
    if isinstance(body, dict) and "messages" in body:
        return body["messages"]
    present = [name for name in PROMPT_COLUMNS if name in row.values]
    if present:
        raise InputError(f"{row.where}: empty prompt (column {present[0]} is null)")
    raise InputError(
        f"{row.where}: no prompt column ({', '.join(PROMPT_COLUMNS)}); the columns are "
        f"{', '.join(sorted(row.values))}; set prompts.columns.prompt"
    )


def _messages(row: Row, content: Any) -> tuple[Message, ...]:
    if not isinstance(content, list) or not content:
        raise InputError(f"{row.where}: empty prompt or not a text or list of messages")
    for turn in content:
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            raise InputError(f"{row.where}: a message must have a role and a text as content")
        if turn.get("role") not in ROLES:
            known = ", ".join(ROLES)
            raise InputError(f"{row.where}: role {turn.get('role')!r} is none of {known}")
    return tuple({"role": turn["role"], "content": turn["content"]} for turn in content)


def _text(row: Row, column: str | None, usual: tuple[str, ...]) -> str | None:
    if column is not None:
        _require(row, column)
    for name in (column,) if column is not None else usual:
        value = row.values.get(name)
        if value is not None:
            return str(value)
    return None


def _require(row: Row, column: str) -> None:
    if column not in row.values:
        there = ", ".join(sorted(row.values))
        raise InputError(f"{row.where}: no column {column!r}; the columns are {there}")


def _digest(*content: Any) -> str:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return blake2b(text.encode(), digest_size=8).hexdigest()
