"""The rows of exports and files as TRL's trainers take them: responses with their prompts, tokens,
or pairs.

Rows of exports stay on disk: `datasets` maps them into memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import datasets

from pipeline.distill.config import TrainingRows
from pipeline.distill.conversations import conversations
from pipeline.distill.exports import Export
from pipeline.errors import InputError
from pipeline.store.files import Folder

# What TRL reads, by the format of the export.
COLUMNS = {
    "tokens": ("input_ids", "labels"),
    "sft": ("prompt", "completion"),
    "preference": ("prompt", "chosen", "rejected"),
    "reward": ("prompt", "chosen", "rejected"),
}
KEY, TOOLS = "prompt_id", "tools"


@dataclass(frozen=True)
class Rows:
    """Rows to train on and held-out ones (None: none), with the column `prompt_id`.

    A prompt is in one of the two.
    """

    train: datasets.Dataset
    held_out: datasets.Dataset | None

    def overlap(self, prompt_ids: Iterable[str]) -> int:
        """How many of the prompts are trained on, by their ids."""
        trained = set(self.train.unique(KEY))
        return len([prompt_id for prompt_id in prompt_ids if prompt_id in trained])


def load_rows(exports: list[Export], data: TrainingRows, scratch: Path) -> Rows:
    """Read the exports, with `scratch` for files. Raises InputError."""
    train = [
        _load(export, "train", data.limit, scratch / str(n)) for n, export in enumerate(exports)
    ]
    held = [
        _load(export, "test", None, scratch / f"held-{n}")
        for n, export in enumerate(exports)
        if export.facts["splits"].get("test")
    ]
    rows = _together(train)
    if held:
        return _disjoint(rows, _together(held))
    if not data.held_out:
        return Rows(rows, None)
    out = [_position(prompt_id) < data.held_out for prompt_id in rows[KEY]]
    if all(out) or not any(out):
        raise InputError(
            f"data.held_out={data.held_out}: {sum(out)} of {len(rows)} rows would be held out"
        )
    return Rows(
        rows.select([n for n, held in enumerate(out) if not held]),
        rows.select([n for n, held in enumerate(out) if held]),
    )


def _load(export: Export, split: str, limit: int | None, scratch: Path) -> datasets.Dataset:
    if export.is_file:
        return datasets.Dataset.from_list([*islice(conversations(export.path), limit)])
    folder = Folder(export.path)
    names = [f.name for f in folder.files("default") if f.name.startswith(f"default/{split}-")]
    listed = {name for name in export.facts["files"] if name.startswith(f"default/{split}-")}
    if set(names) != listed or not names:
        raise InputError(
            f"{export.path}: the files of its split {split} are not those of export.json; give the "
            "command that exports it again"
        )
    try:
        rows = datasets.Dataset.from_parquet(
            [_local(folder, name, scratch) for name in names], cache_dir=str(scratch / "cache")
        )
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        raise InputError(f"cannot read {export.path}: {error}") from error
    if limit is not None and limit < len(rows):
        rows = rows.select(range(limit))
    if "messages" in rows.column_names:
        features = datasets.Features(rows.features)
        turns = features.pop("messages")
        features |= {"prompt": turns, "completion": turns}
        rows = rows.map(_last_turn, remove_columns="messages", features=features)
    wanted = [*COLUMNS[export.format], KEY]
    missing = [name for name in wanted if name not in rows.column_names]
    if missing:
        raise InputError(f"{export.path}: its rows have no column {', '.join(missing)}")
    return rows.select_columns([n for n in (*wanted, TOOLS) if n in rows.column_names])


def _together(parts: list[datasets.Dataset]) -> datasets.Dataset:
    """The rows of all parts. Where one has turns that call tools, all have turns of its form."""
    features = [part.features for part in parts]
    any_form = datasets.List(datasets.Json())
    forms = {
        name: any_form
        for name in {name for each in features for name in each if any_form == each[name]}
    }
    parts = [
        part
        if all(part.features.get(name, form) == form for name, form in forms.items())
        # The rows as they are, written in the other form.
        else part.map(dict, features=datasets.Features({**part.features, **forms}))
        for part in parts
    ]
    return datasets.concatenate_datasets(parts)


def _last_turn(row: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation as its last turn and what comes before it: the last turn is trained on."""
    return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}


def _local(folder: Folder, name: str, scratch: Path) -> str:
    """The path of a file on this machine; a file in an object store is copied."""
    if folder.local:
        return folder.path(name)
    target = scratch / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with folder.fs.open_input_stream(folder.path(name)) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 24)
    return str(target)


def _position(prompt_id: str) -> float:
    """A place in [0, 1) that depends on the id alone: a prompt is held out in every training."""
    return int.from_bytes(blake2b(prompt_id.encode(), digest_size=8).digest(), "big") / 2**64


def _disjoint(train: datasets.Dataset, held: datasets.Dataset) -> Rows:
    """Raises InputError where a held-out prompt of one export is trained on in another."""
    shared = set(train.unique(KEY)) & set(held.unique(KEY))
    if shared:
        raise InputError(
            f"data.exports: {len(shared)} held-out prompts of one folder are trained on in "
            f"another, {min(shared)!r} for example: export both with one split.seed"
        )
    return Rows(train, held)
