"""The index of traces: flags and numbers in columns, and the words that a search looks at.

A browser reads the columns as typed arrays, so a million rows are 40 MB. The words of a row are its
id, the beginnings of its prompt, and its answers; where the verifier has extracted none, the
beginning of the response.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.search import id_hash

# Read to index a row: neither the tokens of rejected candidates nor messages.
LIGHT = (
    *("prompt_id", "sample", "error", "question", "response", "base_response", "method"),
    *("expected_answer", "predicted_answer", "correct", "base_correct", "reward", "base_reward"),
    *("finish_reason", "response_token_ids", "response_log_probabilities", "cost", "created_at"),
    *("revisions.list.element.accepted", "input_fingerprint"),
)
# name, type as numpy and JavaScript know it. Wide ones first: each column is aligned.
COLUMNS = (
    ("reward", "f4"), ("base", "f4"), ("logp", "f4"), ("flops", "f4"), ("seconds", "f4"),
    ("tokens", "u4"), ("created", "u4"), ("flags", "u2"), ("proposed", "u2"), ("accepted", "u2"),
    ("method", "u1"), ("arm", "u1"),
)  # fmt: skip
# Bits of `flags`. An answer is right or wrong, or not graded: neither bit. ANSWERED: the verifier
# has extracted an answer.
DEAD, CHANGED, RIGHT, WRONG, BASE_RIGHT, BASE_WRONG, CUT, ANSWERED = (1 << n for n in range(8))

PROMPT_CHARACTERS, ANSWER_CHARACTERS, ID_CHARACTERS = 80, 40, 300
_SPACES = re.compile(r"\s+")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Part:
    """The index of some rows. `words` has a line for each; `keys` and `prompts` are hashes of the
    prompt with its fingerprint, one with the sample and one without; `ids` are those of the id
    alone that the page computes too."""

    columns: dict[str, Array]
    words: list[str]
    keys: Array
    prompts: Array
    ids: Array

    def __len__(self) -> int:
        return len(self.keys)

    def without_words(self) -> Part:
        """The same rows, for a writer that has written their words."""
        return replace(self, words=[])


@dataclass
class Methods:
    """Names of methods by number; more than 255 are one."""

    names: list[str] = field(default_factory=list)

    def number(self, name: str | None) -> int:
        """The number of a method; the same name has the same number."""
        name = name or "?"
        if name not in self.names:
            if len(self.names) >= 255:
                return 255
            self.names.append(name)
        return self.names.index(name)


def index_part(table: pa.Table, arm: int, methods: Methods) -> Part:
    """The index of rows with the columns `LIGHT`, which may be whole rows."""
    count = len(table)
    proposed, accepted = _revisions(table["revisions"], count)
    columns = {
        "reward": _floats(table["reward"]),
        "base": _floats(table["base_reward"]),
        "logp": _means(table["response_log_probabilities"], count),
        # In full until it is packed: the overview shows its mean to the last digit.
        "flops": _floats(pc.struct_field(table["cost"], "flops"), "f8"),
        "seconds": _floats(pc.struct_field(table["cost"], "seconds")),
        "tokens": _counts(pc.list_value_length(table["response_token_ids"]), "u4"),
        "created": _seconds(table["created_at"]),
        "flags": _flags(table, count),
        "proposed": proposed,
        "accepted": accepted,
        "method": np.array([methods.number(m) for m in table["method"].to_pylist()], dtype="u1"),
        "arm": np.full(count, arm, dtype="u1"),
    }
    ids, marks = table["prompt_id"].to_pylist(), table["input_fingerprint"].to_pylist()
    samples = table["sample"].to_pylist()
    return Part(
        columns,
        _words(table),
        np.array([hash(k) for k in zip(ids, samples, marks, strict=True)], dtype="i8"),
        np.array([hash(k) for k in zip(ids, marks, strict=True)], dtype="i8"),
        np.array([id_hash(name[:ID_CHARACTERS]) for name in ids], dtype="u4"),
    )


def joined(parts: Sequence[Part]) -> Part:
    """Some parts as one."""
    if not parts:
        columns = {name: np.empty(0, dtype=kind) for name, kind in COLUMNS}
        hashes = np.empty(0, dtype="i8")
        return Part(columns, [], hashes, hashes, np.empty(0, dtype="u4"))
    return Part(
        {name: np.concatenate([p.columns[name] for p in parts]) for name, _ in COLUMNS},
        [line for part in parts for line in part.words],
        np.concatenate([p.keys for p in parts]),
        np.concatenate([p.prompts for p in parts]),
        np.concatenate([p.ids for p in parts]),
    )


def packed(columns: dict[str, Array], start: int = 0, stop: int | None = None) -> bytes:
    """Rows of the columns, one column after the other, little endian."""
    return b"".join(
        columns[name][start:stop].astype(f"<{kind}", copy=False).tobytes() for name, kind in COLUMNS
    )


def _flags(table: pa.Table, count: int) -> Array:
    dead = np.array([e is not None for e in table["error"].to_pylist()], dtype=bool)
    flags = np.where(dead, DEAD, 0).astype("u2")
    changed = pc.fill_null(pc.not_equal(table["response"], table["base_response"]), False)
    flags |= np.where(changed.to_numpy(zero_copy_only=False), CHANGED, 0).astype("u2")
    for column, right, wrong in (
        ("correct", RIGHT, WRONG),
        ("base_correct", BASE_RIGHT, BASE_WRONG),
    ):
        graded = table[column].to_pylist()
        bits = [0 if g is None else right if g else wrong for g in graded]
        flags |= np.array(bits, dtype="u2")
    answered = table["predicted_answer"].is_valid()
    flags |= np.where(answered.to_numpy(zero_copy_only=False), ANSWERED, 0).astype("u2")
    cut = pc.fill_null(pc.equal(table["finish_reason"], "length"), False)
    return flags | np.where(cut.to_numpy(zero_copy_only=False), CUT, 0).astype("u2")


def _floats(column: pa.ChunkedArray, kind: str = "f4") -> Array:
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(kind)


def _counts(column: pa.ChunkedArray, kind: str) -> Array:
    most = np.iinfo(kind).max
    counts = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype("i8")
    return np.minimum(counts, most).astype(kind)


def _seconds(column: pa.ChunkedArray) -> Array:
    return (column.cast(pa.int64()).to_numpy(zero_copy_only=False) // 1_000_000).astype("u4")


def _revisions(column: pa.ChunkedArray, count: int) -> tuple[Array, Array]:
    """How many revisions a row has, and how many of them were accepted."""
    parents = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    flat = pc.struct_field(pc.list_flatten(column), "accepted").to_numpy(zero_copy_only=False)
    proposed = np.bincount(parents.astype("i8"), minlength=count)
    accepted = np.bincount(parents.astype("i8"), weights=flat.astype("f8"), minlength=count)
    return np.minimum(proposed, 65535).astype("u2"), np.minimum(accepted, 65535).astype("u2")


def _means(column: pa.ChunkedArray, count: int) -> Array:
    """The mean of each list, without its nulls; NaN for none."""
    parents = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype("i8")
    values = pc.list_flatten(column).to_numpy(zero_copy_only=False).astype("f8")
    known = ~np.isnan(values)
    sums = np.bincount(parents[known], weights=values[known], minlength=count)
    sizes = np.bincount(parents[known], minlength=count)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums / sizes).astype("f4")


def _words(table: pa.Table) -> list[str]:
    prompts = table["question"].to_pylist()
    answers = zip(
        table["expected_answer"].to_pylist(), table["predicted_answer"].to_pylist(), strict=True
    )
    # A response may have a megabyte, and its beginning is enough.
    beginnings = pc.utf8_slice_codeunits(table["response"], 0, 16 * PROMPT_CHARACTERS)
    responses = beginnings.to_pylist()
    keys = zip(table["prompt_id"].to_pylist(), table["sample"].to_pylist(), strict=True)
    return [
        "\t".join(
            (
                _escaped(prompt_id, ID_CHARACTERS),
                str(sample),
                _first(prompt, PROMPT_CHARACTERS),
                _first(expected, ANSWER_CHARACTERS),
                _first(response, PROMPT_CHARACTERS)
                if predicted is None
                else _first(predicted, ANSWER_CHARACTERS),
            )
        )
        for (prompt_id, sample), prompt, (expected, predicted), response in zip(
            keys, prompts, answers, responses, strict=True
        )
    ]


def _first(text: str | None, length: int) -> str:
    # Cut before the pattern sees it: a text may have megabytes.
    whole = (text or "").strip()
    found = _SPACES.sub(" ", whole[: 4 * length])
    if len(found) <= length and len(whole) <= 4 * length:
        return found
    return found[:length].rstrip() + "…"


def _escaped(text: str, length: int) -> str:
    """An id stays as it is but for what separates words and rows here."""
    return text[:length].replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
