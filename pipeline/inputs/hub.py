"""Rows of datasets that `datasets` loads: saved by `save_to_disk`, or on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from nabla_core.models.hub import cache_without_network
from pipeline.errors import InputError
from pipeline.inputs.file import Row, reason
from pipeline.inputs.tables import BATCH_ROWS, batch_rows
from pipeline.printable import listed

# As the hub defines it: an owner and a name, or the name alone.
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


def is_hub_id(path: str) -> bool:
    """Whether a path may be the id of a dataset on the hub."""
    return _HUB_ID.fullmatch(path) is not None


def saved_rows(path: str, label: str, split: str | None, wanted: frozenset[str]) -> Iterator[Row]:
    """The rows of a dataset saved by `save_to_disk`. Raises InputError."""
    # Imported here: it takes seconds, and most inputs are plain files.
    import datasets  # noqa: PLC0415

    try:
        loaded = datasets.load_from_disk(path)
    except Exception as error:  # damaged files make it raise anything
        raise InputError(f"cannot read prompts from {label}: {_short(error)}") from error
    yield from _rows(loaded, label, split, wanted)


def hub_rows(
    path: str, name: str | None, split: str | None, revision: str | None, wanted: frozenset[str]
) -> Iterator[Row]:
    """The rows of a dataset on the hub, or of the copy that an earlier run has left in the cache of
    `datasets`. Raises InputError, within seconds where the hub cannot be reached."""
    import datasets  # noqa: PLC0415 - see above

    try:
        with cache_without_network(path, datasets.config):
            loaded = datasets.load_dataset(path, name, revision=revision)
    except Exception as error:  # a dataset's own loading code may raise anything
        raise InputError(
            f"cannot read prompts from {path}: no file or folder has this name, and as a dataset "
            f"of the Hugging Face hub it cannot be loaded: {_short(error)}"
        ) from error
    yield from _rows(loaded, path, split, wanted)


def _rows(loaded: Any, label: str, split: str | None, wanted: frozenset[str]) -> Iterator[Row]:
    if isinstance(loaded, dict):
        if split is None and len(loaded) == 1:
            split = next(iter(loaded))
        if split not in loaded:
            problem = "set prompts.split" if split is None else f"no split {split!r}"
            raise InputError(f"{label}: {problem}; the splits are {listed(loaded)}")
        loaded, label = loaded[split], f"{label}[{split}]"
    names = tuple(loaded.column_names)
    number = 0
    try:
        # As Arrow tables: `datasets` would decode images and audio, and dates beyond Python's.
        chosen = loaded.select_columns([name for name in names if name in wanted])
        for table in chosen.with_format("arrow").iter(batch_size=BATCH_ROWS):
            for row in batch_rows(table, names, wanted, label, number):
                number += 1
                yield row
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"cannot read {label} after row {number}: {_short(error)}") from error


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {reason(error)}"
