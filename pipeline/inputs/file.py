"""A file of an input, and a row of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError
from pipeline.printable import visible


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an input; `location` is its place as error messages name it.

    `values` are those of `pipeline.inputs.values`. `columns`: the names of all columns, where
    `values` has only those that a prompt can be made of.
    """

    values: Mapping[str, Any]
    location: str
    columns: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns."""
        return self.columns or tuple(self.values)


@dataclass(frozen=True, slots=True)
class File:
    """A file: a pyarrow filesystem, the path in it, and its name in messages."""

    filesystem: Any
    path: str
    label: str

    def blocks(self, size: int) -> Iterator[bytes]:
        """The bytes, decompressed where the suffix names a compression. Raises InputError."""
        try:
            with self.filesystem.open_input_stream(self.path) as stream:
                while block := stream.read(size):
                    yield block
        except (OSError, ValueError, ImportError, MemoryError) as error:
            raise InputError(f"cannot read {self.label}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """What an error of a library says, in one line."""
    text = visible(" ".join(str(error).split()))
    return text or type(error).__name__
