"""The prompts of a job, from the embedded task, files or a dataset, each with a stable id.

An id is stable if it stays the same when other rows are inserted or appended: committed
rows are found again by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from typing import Any

from nabla_core.config import check
from nabla_core.embedded import task
from nabla_core.types import Prompt
from pipeline.errors import InputError
from pipeline.inputs.file import Row
from pipeline.inputs.repeats import Repeats
from pipeline.inputs.row_prompt import Columns, mapped, to_prompt
from pipeline.inputs.sources import rows
from pipeline.printable import shown
from pipeline.references import shown_uri
from pipeline.store.input_index import InputIndex

# The embedded task has no end; this many prompts where no limit is set.
EMBEDDED_PROMPTS = 64
# They are drawn one after the other, and all are kept in memory.
MOST_EMBEDDED = 10_000_000
# More than `InputIndex` numbers.
MOST = 2**32 - 2


@dataclass(frozen=True)
class Prompts:
    """Where prompts come from.

    Attributes:
        path: `embedded` (the embedded task), a .jsonl, .json, .csv, .tsv or .parquet file (text
            files also with .gz, .zst or .bz2), a pattern such as `data/*.jsonl`, a folder of files,
            a dataset saved by `save_to_disk`, or the id of a dataset on the Hugging Face hub. Files
            may be any URI that pyarrow or fsspec opens.
        split: The split of a hub dataset or of the embedded task (train, validation, test).
        name: The configuration of a hub dataset.
        revision: Branch, tag or commit of a hub dataset.
        skip (prompts): Leaves out the first prompts, this many.
        limit (prompts): Takes this many of the others; null: all, or 64 of the embedded task, which
            is endless.
        seed: Chooses the prompts of the embedded task.
        system: A system prompt for conversations that have none.
        allow_special_tokens: Names of control tokens in prompts, such as `<|im_end|>`, become these
            tokens, for the LM and the reward models; otherwise they are encoded as text, and a
            prompt is refused if a tokenizer cannot.
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
    allow_special_tokens: bool = False
    columns: Columns = field(default_factory=Columns)

    def __post_init__(self) -> None:
        limit = self.limit
        check(limit is None or limit >= 1, f"prompts.limit must be at least 1, got {limit}")
        check(self.skip >= 0, f"prompts.skip must be at least 0, got {self.skip}")
        for name, value in (("limit", limit or 0), ("skip", self.skip)):
            check(value <= MOST, f"prompts.{name} must be at most {MOST:,}, got {value}")
        drawn = self.skip + (limit or 0)
        check(
            self.path != "embedded" or drawn <= MOST_EMBEDDED,
            f"prompts.skip and prompts.limit: {drawn:,} prompts of the embedded task, which gives "
            f"at most {MOST_EMBEDDED:,}",
        )


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt, and the fingerprint of its content, by which an edited prompt is noticed."""

    prompt: Prompt
    fingerprint: str


def read(settings: Prompts, repeats: Repeats | None = None) -> Iterator[Item]:
    """The prompts in the order of their source, each with sample 0. Reads as it is consumed.

    The id of a row without one is a digest of its content; the second row of the same content gets
    "-1" at the end, and so on. So repeated prompts are kept, and an inserted row changes no other
    row's id. A caller that reads an input several times gives the same `repeats` each time.
    Raises InputError naming file and row.
    """
    repeats = repeats or Repeats()
    end = None if settings.limit is None else settings.skip + settings.limit
    found = 0
    for found, item in enumerate(islice(_items(settings, repeats), end), 1):
        if found > settings.skip:
            yield item
    repeats.complete()
    if not found:
        raise InputError(f"{shown_uri(settings.path)}: no prompts")
    if found <= settings.skip:
        raise InputError(
            f"{shown_uri(settings.path)} has {found} prompt{'s' * (found > 1)}, and "
            f"prompts.skip={settings.skip} leaves none: give more prompts or a smaller "
            "prompts.skip"
        )


def _items(settings: Prompts, repeats: Repeats) -> Iterator[Item]:
    earlier = repeats.reading()
    for row in _source(settings):
        if isinstance(row, Prompt):
            yield Item(row, fingerprint(row))
            continue
        prompt = to_prompt(row, settings.columns, settings.system)
        if settings.allow_special_tokens:
            prompt = replace(prompt, allow_special_tokens=True)
        if not prompt.id:
            # The first row of a content has the bare key, so a later duplicate changes no id.
            key = content_key(prompt)
            number = earlier(key)
            prompt = replace(prompt, id=f"{key}-{number}" if number else key)
        yield Item(prompt, fingerprint(prompt))


def mapped_columns(settings: Prompts) -> dict[str, str] | None:
    """Which column of the first row holds what, by `prompt`, `id`, `answer`, `system` and `tools`;
    None for prompts that have no columns. Raises InputError."""
    for row in islice(_source(settings), settings.skip, settings.skip + 1):
        return None if isinstance(row, Prompt) else mapped(row, settings.columns)
    return None


def index(items: Iterable[Item], path: str) -> InputIndex:
    """The ids and fingerprints of all prompts, in input order.

    Raises InputError, naming three of them, if ids occur more than once.
    """
    found = InputIndex()
    repeated: dict[str, None] = {}
    for item in items:
        if not found.add(item.prompt.id, item.fingerprint):
            repeated[item.prompt.id] = None
    if repeated:
        first = ", ".join(shown(i) for i in list(repeated)[:3])
        raise InputError(f"{shown_uri(path)}: {len(repeated)} ids occur more than once: {first}")
    return found


def content_key(prompt: Prompt) -> str:
    """16 hex digits of the conversation, the system prompt and the tools: of all that the LM
    reads."""
    return _digest(_turns(prompt), prompt.system, *_tools(prompt))


def fingerprint(prompt: Prompt) -> str:
    """16 hex digits of the conversation, the system prompt, the expected answer and the tools, and
    of how names of control tokens are read."""
    allowed = (True,) if prompt.allow_special_tokens else ()
    return _digest(_turns(prompt), prompt.system, prompt.answer, *allowed, *_tools(prompt))


def _source(settings: Prompts) -> Iterable[Row | Prompt]:
    if settings.path != "embedded":
        wanted = settings.columns.wanted()
        return rows(settings.path, settings.name, settings.split, settings.revision, wanted)
    try:
        # Also those that `skip` leaves out: `read` drops them, as it does for files.
        return task.prompts(
            settings.skip + (settings.limit or EMBEDDED_PROMPTS),
            seed=settings.seed,
            split=settings.split or "test",  # type: ignore[arg-type]
        )
    except ValueError as error:
        raise InputError(f"prompts.split: {error}") from error


def _turns(prompt: Prompt) -> list[dict[str, Any]]:
    """The turns; calls of tools as texts, since a model reads their keys in their order."""
    return [
        {**turn, "tool_calls": json.dumps(turn["tool_calls"])} if "tool_calls" in turn else {**turn}
        for turn in prompt.messages
    ]


def _tools(prompt: Prompt) -> tuple[str, ...]:
    # None adds nothing: prompts without tools keep their digests.
    return () if prompt.tools is None else (json.dumps(prompt.tools),)


def _digest(*content: Any) -> str:
    # Sorted keys and fixed separators: equal content has one digest.
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return blake2b(text.encode(), digest_size=8).hexdigest()
