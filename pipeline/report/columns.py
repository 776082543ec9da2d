"""Columns of a table as a browser reads them: JSON, and lists of numbers as typed arrays behind it.

A row of a run holds hundreds of token ids. As arrays they cost a writer nothing; as Python objects
and digits they are most of its work. `web/chunk.js` reads what this file writes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

# Lists of these are typed arrays: the name of their type in numpy and in the page.
_TYPED = {pa.int32(): "i4", pa.float32(): "f4"}
# Log-probabilities with more digits do not compress, and nobody reads them.
_DIGITS = 3


class Columns:
    """The columns of one piece of data. A null in a list of floats becomes NaN."""

    def __init__(self) -> None:
        self._arrays: list[bytes] = []
        self._size = 0

    def packed(self, value: Any) -> bytes:
        """A value that holds columns of this object, and their arrays: the length of the JSON text
        as four bytes, the text, and the arrays, each at a multiple of four."""
        text = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        return b"".join([np.uint32(len(text)).astype("<u4").tobytes(), text, *self._arrays])

    def column(self, array: pa.Array, without: Collection[str] = ()) -> Any:
        """A column as JSON: a list of values, or how the values are made of other columns. Fields
        of structs with a name in `without` are left out."""
        kind = array.type
        if pa.types.is_list(kind):
            sizes: dict[str, Any] = {"sizes": pc.fill_null(array.value_lengths(), -1).tolist()}
            if kind.value_type in _TYPED:
                return {**sizes, **self._typed(array.flatten())}
            return {**sizes, "of": self.column(array.flatten(), without)}
        if pa.types.is_struct(kind):
            names = [kind.field(n).name for n in range(kind.num_fields)]
            fields = dict(zip(names, array.flatten(), strict=True))
            made = {n: self.column(a, without) for n, a in fields.items() if n not in without}
            return {"fields": made, "missing": pc.indices_nonzero(array.is_null()).tolist()}
        return values(array)

    def _typed(self, array: pa.Array) -> Mapping[str, Any]:
        kind = _TYPED[array.type]
        found = array.to_numpy(zero_copy_only=False)
        if kind == "f4":
            found = np.round(found.astype("f4"), _DIGITS)
        place = self._size
        self._arrays.append(found.astype(f"<{kind}").tobytes())
        self._size += len(self._arrays[-1])
        return {"type": kind, "at": place}


def values(array: pa.Array) -> list[Any]:
    """The values of a column that holds neither lists nor structs; null for what is no number."""
    if pa.types.is_floating(array.type):
        numbers = array.to_numpy(zero_copy_only=False)
        known: npt.NDArray[np.bool_] = np.isfinite(numbers)
        found: list[Any] = numbers.tolist()
        return (
            found if known.all() else [v if k else None for v, k in zip(found, known, strict=True)]
        )
    if pa.types.is_integer(array.type) and not array.null_count:
        whole: list[Any] = array.to_numpy().tolist()
        return whole
    listed: list[Any] = array.to_pylist()
    return listed
