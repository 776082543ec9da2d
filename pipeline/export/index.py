"""Facts about every trace, held in arrays: what filters decide by.

An export reads its run folders several times rather than hold their rows. What is in memory is the
index, 41 bytes a row.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.export.sources import Reader
from pipeline.export.turns import READ, TurnFormat

Array = npt.NDArray[Any]

_COLUMNS = (
    *("prompt_id", "sample", "input_fingerprint", "error", "finish_reason"),
    *("reward", "base_reward", "correct", "response_token_ids", "base_token_ids"),
    *("judge_model", "judge_revision", "tokenizer_fingerprint", "generation_revision"),
    *READ,
)
DEAD, REPEATED = "dead letter", "committed twice"


@dataclass
class Index:
    """One entry a row in each array, in the order of the run folders.

    `prompt` is a digest of the prompt; `reward` and `gain` are NaN where there is none; `correct`
    is -1 where nothing was graded. `reason` is the number of the reason in `reasons` that dropped
    the row, 0 for a row that is kept. `judges` and `tokenizers` are those that occur; `turns` tells
    whether a prompt has tools.
    """

    file: Array
    row: Array
    prompt: Array
    reward: Array
    gain: Array
    correct: Array
    tokens: Array
    stopped: Array
    changed: Array
    reason: Array
    rows_of_source: list[int]
    judges: set[str]
    tokenizers: set[str]
    turns: TurnFormat = field(default_factory=TurnFormat)
    reasons: list[str] = field(default_factory=lambda: [""])

    def __len__(self) -> int:
        return len(self.row)

    @property
    def kept(self) -> Array:
        """The numbers of the rows that are kept."""
        return np.flatnonzero(self.reason == 0)

    def drop(self, rows: Array, reason: str) -> None:
        """Drop rows, given by number or as a mask, that are not dropped yet."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        mask = np.zeros(len(self), dtype=bool)
        mask[rows] = True
        self.reason[mask & (self.reason == 0)] = self.reasons.index(reason)

    def counts(self) -> dict[str, int]:
        """Dropped rows by reason, in the order in which reasons apply."""
        counted = np.bincount(self.reason, minlength=len(self.reasons))
        return {r: int(n) for r, n in zip(self.reasons, counted, strict=True) if r and n}


def build(reader: Reader, first: int | None = None) -> Index:
    """Read the facts of all rows, or of the `first` ones of each source. Raises InputError."""
    chunks: dict[str, list[Array]] = {name: [] for name in _ARRAYS}
    per_file: Counter[int] = Counter()
    judges: set[str] = set()
    tokenizers: set[str] = set()
    dead: list[int] = []
    repeated: list[int] = []
    seen: set[tuple[int, bytes]] = set()
    source_of = {id(s): n for n, s in enumerate(reader.sources)}
    turns = TurnFormat()
    total = 0
    for file, start, table in reader.scan(_COLUMNS, first):
        source = reader.files[file][0]
        for name, values in _facts(table, file, start).items():
            chunks[name].append(values)
        per_file[source_of[id(source)]] += len(table)
        turns |= TurnFormat.of(table)
        judges.update(_pairs(table, "judge_model", "judge_revision"))
        tokenizers.update(v for v in table["tokenizer_fingerprint"].unique().to_pylist() if v)
        if not source.complete:
            # Its parts also hold dead letters, and rows that were made twice after a crash.
            for n, error in enumerate(table["error"].to_pylist()):
                key = (source_of[id(source)], _key(table, n))
                if error is not None:
                    dead.append(total + n)
                elif key in seen:
                    repeated.append(total + n)
                else:
                    seen.add(key)
        total += len(table)
    arrays = {name: np.concatenate(parts) for name, parts in chunks.items()}
    index = Index(
        **arrays,  # type: ignore[arg-type]
        reason=np.zeros(total, dtype=np.uint8),
        rows_of_source=[per_file[n] for n in range(len(reader.sources))],
        judges=judges,
        tokenizers=tokenizers,
        turns=turns,
    )
    index.drop(np.array(dead, dtype=np.int64), DEAD)
    index.drop(np.array(repeated, dtype=np.int64), REPEATED)
    return index


_ARRAYS = (*("file", "row", "prompt", "reward", "gain", "correct", "tokens", "stopped", "changed"),)


def _facts(table: pa.Table, file: int, start: int) -> dict[str, Array]:
    count = len(table)
    reward = _floats(table["reward"])
    correct = pc.fill_null(table["correct"].cast(pa.int8()), -1)
    response, base = table["response_token_ids"], table["base_token_ids"]
    return {
        "file": np.full(count, file, dtype=np.uint32),
        "row": np.arange(start, start + count, dtype=np.uint32),
        "prompt": _digests(table["input_fingerprint"].to_pylist()),
        "reward": reward,
        "gain": (reward - _floats(table["base_reward"])).astype(np.float32),
        "correct": correct.to_numpy().astype(np.int8),
        "tokens": pc.fill_null(pc.list_value_length(response), 0).to_numpy().astype(np.int32),
        "stopped": pc.fill_null(pc.equal(table["finish_reason"], "stop"), False).to_numpy(),
        "changed": _differ(response.combine_chunks(), base.combine_chunks()),
    }


def _differ(left: Any, right: Any) -> Array:
    """Whether two lists of each row differ."""
    lengths = pc.fill_null(pc.list_value_length(left), 0).to_numpy(zero_copy_only=False)
    others = pc.fill_null(pc.list_value_length(right), 0).to_numpy(zero_copy_only=False)
    differ: Array = lengths != others
    same = np.flatnonzero(~differ)
    ones = pa.array(same)
    a = left.take(ones).flatten().to_numpy(zero_copy_only=False)
    b = right.take(ones).flatten().to_numpy(zero_copy_only=False)
    owner = np.repeat(same, lengths[same])
    differ[owner[a != b]] = True
    return differ


def _floats(column: pa.ChunkedArray) -> Array:
    values: Array = pc.fill_null(column, float("nan")).to_numpy()
    return values


def _digests(fingerprints: list[str]) -> Array:
    """64 bits of each fingerprint, which is 16 hex digits."""
    return np.frombuffer(bytes.fromhex("".join(fingerprints)), dtype=">u8").astype(np.uint64)


def _key(table: pa.Table, row: int) -> bytes:
    prompt, sample = table["prompt_id"][row].as_py(), table["sample"][row].as_py()
    return blake2b(f"{prompt}\x1f{sample}".encode(), digest_size=8).digest()


def _pairs(table: pa.Table, *columns: str) -> set[str]:
    grouped = table.select(list(columns)).group_by(list(columns)).aggregate([])
    return {" ".join(map(str, row.values())) for row in grouped.to_pylist() if any(row.values())}
