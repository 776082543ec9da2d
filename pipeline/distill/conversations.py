"""Files of prompts and completions as the data of a student (`data.files`). Imports neither torch
nor ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from pipeline.errors import InputError
from pipeline.inputs.prompts import content_key
from pipeline.inputs.row_prompt import Columns, to_prompt
from pipeline.inputs.sources import rows

COMPLETION = "completion"
_COLUMNS = Columns()


def conversations(path: str) -> Iterator[dict[str, Any]]:
    """The rows of a file as `nabla export` writes them (format `sft`, layout `prompt_completion`):
    messages `prompt` and `completion`, and `prompt_id`, which is made of the prompt where the file
    has none.

    A row is one of a prompt file with a further column `completion`, a text. Reads as it is
    consumed. Raises InputError naming file and row.
    """
    for row in rows(path, None, None, None, _COLUMNS.wanted() | {COMPLETION}):
        prompt = to_prompt(row, _COLUMNS, None)
        completion = row.values.get(COMPLETION)
        if type(completion) is not str or not completion.strip():
            raise InputError(
                f"{row.location}: data.files: the column {COMPLETION} must hold the text of a "
                "response"
            )
        if prompt.tools:
            raise InputError(
                f"{row.location}: data.files takes no prompts with tools: give a folder of nabla "
                "export in data.exports"
            )
        system = [{"role": "system", "content": prompt.system}] if prompt.system else []
        yield {
            "prompt": [*system, *(dict(message) for message in prompt.messages)],
            "completion": [{"role": "assistant", "content": completion}],
            "prompt_id": prompt.id or content_key(prompt),
        }


def facts_of(path: str) -> tuple[Mapping[str, Any], str]:
    """The facts of a file in the form of `export.json`, and a digest of its rows. Raises InputError
    where a row cannot be read, or there is none."""
    digest, count = blake2b(digest_size=16), 0
    for row in conversations(path):
        digest.update(repr(row).encode())
        count += 1
    if not count:
        raise InputError(f"{path} holds no rows")
    return {"read": count, "kept": count, "splits": {"train": count}}, digest.hexdigest()
