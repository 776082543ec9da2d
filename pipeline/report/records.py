"""Rows of the table of traces as the page shows them, in columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.columns import Columns
from pipeline.report.scripts import script
from pipeline.report.tokens import TokenTexts

Array = npt.NDArray[Any]

# What the page shows of a row: `web/chunk.js` makes a trace of it.
_SHOWN = (
    *("prompt_id", "sample", "error", "prompt", "tools", "rendered_prompt", "response"),
    *("finish_reason", "reward", "expected_answer", "predicted_answer", "correct"),
    *("base_response", "base_reward", "base_correct", "response_token_ids", "base_token_ids"),
    *("response_log_probabilities", "revisions", "cost", "method", "seed", "attempt", "worker"),
    *("generation_model", "generation_revision", "judge_model", "judge_revision"),
    *("guide_model", "guide_revision"),
)
# Needed beside those.
_READ = (*_SHOWN, "created_at", "tokenizer_fingerprint")
_TEXTS = ("prompt_id", "error", "tools", "rendered_prompt", "response", "base_response")
_TOKENS = ("response_token_ids", "base_token_ids")
# Fields of a revision that the page does not show.
_UNSHOWN = ("spent",)


def chunk_script(number: int, table: pa.Table, tokens: TokenTexts | None) -> bytes:
    """The script of a chunk: some rows of a run with the texts of their tokens. A row of another
    tokenizer than `tokens` has none."""
    arrays = {name: _whole(table[name]) for name in _READ}
    fingerprints = arrays["tokenizer_fingerprint"].to_pylist()
    known = np.array([fits(fingerprint, tokens) for fingerprint in fingerprints], dtype=bool)
    pieces = tokens.pieces(*_sequences(arrays, known)) if tokens and known.any() else {}
    special = [i for i in sorted(tokens.special) if str(i) in pieces] if tokens else []
    columns = Columns()
    made = {name: columns.column(arrays[name], _UNSHOWN) for name in _SHOWN}
    made["created"] = (arrays["created_at"].cast(pa.int64()).to_numpy() // 1_000_000).tolist()
    made["known"] = known.tolist()
    data = columns.packed({"rows": made, "pieces": pieces, "special": special})
    return script(f"rows/{number}", data)


def sizes(table: pa.Table) -> Array:
    """About how many bytes each row is in a chunk."""
    arrays = {name: _whole(table[name]) for name in (*_TEXTS, *_TOKENS, "prompt", "revisions")}
    lengths = [_filled(pc.binary_length(arrays[name])) for name in _TEXTS]
    lengths += [4 * _filled(arrays[name].value_lengths()) for name in _TOKENS]
    turns = pc.struct_field(arrays["prompt"].flatten(), "content")
    lengths.append(_summed(arrays["prompt"], _filled(pc.binary_length(turns))))
    tails = pc.struct_field(arrays["revisions"].flatten(), "tail_token_ids")
    lengths.append(_summed(arrays["revisions"], 200 + 4 * _filled(tails.value_lengths())))
    return np.sum(lengths, axis=0, dtype="i8")


def fits(fingerprint: str | None, tokens: TokenTexts | None) -> bool:
    """Whether `tokens` are of the tokenizer that a row was made with."""
    return tokens is not None and fingerprint in (None, tokens.fingerprint)


def _sequences(arrays: Mapping[str, pa.Array], known: Array) -> tuple[Array, Array]:
    """All tokens of the known rows, and how many each sequence of them has."""
    mask = pa.array(known)
    lists = [arrays[name].filter(mask) for name in _TOKENS]
    revisions = arrays["revisions"].filter(mask).flatten()
    lists.append(pc.struct_field(revisions, "tail_token_ids"))
    flat = [one.flatten().to_numpy() for one in lists]
    counts = [_filled(one.value_lengths()) for one in lists]
    for name in ("from_token", "to_token"):
        alone = pc.drop_null(pc.struct_field(revisions, name)).to_numpy()
        flat.append(alone)
        counts.append(np.ones(len(alone), dtype="i8"))
    return np.concatenate(flat), np.concatenate(counts)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)


def _filled(lengths: pa.Array) -> Array:
    found: Array = pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False).astype("i8")
    return found


def _summed(lists: pa.Array, of: Array) -> Array:
    """For each list the sum of the numbers of its elements."""
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype("i8")
    return np.bincount(parents, weights=of, minlength=len(lists)).astype("i8")
