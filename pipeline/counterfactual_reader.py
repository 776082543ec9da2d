"""Counterfactuals for training: what `jobs.counterfactuals` wrote, and what the revisions of
trace runs amount to.

A revision, accepted or not, compares two tokens in a response: (taken, its score) and (tried,
its score). Only whole responses are of use: a trace holds its last one as ids and its first as
text. The last one had rejected revisions after the last acceptance, and that acceptance itself
seen from the other side; the first one the revisions up to the first acceptance. What was
tried in responses between them is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nabla_core.counterfactuals import Place
from nabla_core.guides.examples import Record
from nabla_core.types import Prompt
from pipeline.counterfactual_schema import place_of
from pipeline.errors import InputError, StoreError
from pipeline.files import Folder
from pipeline.parts import KIND
from pipeline.store import DATA, SUCCESS

Tokens = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Data:
    """What a guide is trained on.

    `counterfactuals` and `traces` are run folders of `jobs.counterfactuals` and
    `jobs.generate`, mixed; of each the first `limit` rows. Prompts are held out for measuring
    with probability `held_out`, by their id. Alternatives to which the LM gives a
    log-probability below `least_log_probability` are left out. Verdicts of a verifier become
    log-odds, 0 and 1 first drawn in by `doubt`.
    """

    counterfactuals: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    limit: int | None = None
    held_out: float = 0.1
    least_log_probability: float | None = None
    doubt: float = 0.05

    def __post_init__(self) -> None:
        if not self.counterfactuals and not self.traces:
            raise ValueError("data: name at least one folder in counterfactuals or traces")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"data.limit must be at least 1, got {self.limit}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"data.held_out must be above 0 and below 1, got {self.held_out}")
        if not 0 < self.doubt < 0.5:
            raise ValueError(f"data.doubt must be above 0 and below 0.5, got {self.doubt}")

    @property
    def least(self) -> float:
        """`least_log_probability`, -inf where nothing is left out."""
        least = self.least_log_probability
        return float("-inf") if least is None else least


@dataclass
class Mixture:
    """Records of all folders, where they come from, and what was left out."""

    records: list[Record] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def look(data: Data) -> None:
    """Whether every folder of `data` holds what it should; reads no more than first rows.

    Raises InputError, as `mix` would after models were loaded.
    """
    for kind, paths in (("counterfactuals", data.counterfactuals), ("traces", data.traces)):
        for path in paths:
            next(_rows(path, kind), None)


def mix(data: Data, *, lm_revision: str, tokenizer: str, encode: Tokens) -> Mixture:
    """Read every folder of `data`.

    `lm_revision` and `tokenizer` are the fingerprints rows must bear; `encode` turns the text
    of a first response into the LM's ids. Raises InputError naming folder and row.
    """
    mixture = Mixture()
    for path in data.counterfactuals:
        wanted = {"generation_revision": lm_revision, "tokenizer_fingerprint": tokenizer}
        _add(mixture, data, path, "counterfactuals", wanted, lambda row: [_record(row, data)])
    for path in data.traces:
        wanted = {"generation_revision": lm_revision}
        _add(
            mixture,
            data,
            path,
            "traces",
            wanted,
            lambda row: revised(row, encode, mixture.left_out),
        )
    return mixture


def _add(
    mixture: Mixture,
    data: Data,
    path: str,
    kind: str,
    wanted: Mapping[str, str],
    records: Callable[[dict[str, Any]], list[Record]],
) -> None:
    before, rows, judges, scorers = len(mixture.records), 0, set(), set()
    for row, where in _rows(path, kind):
        if rows == data.limit:
            break
        rows += 1
        for column, value in wanted.items():
            if row[column] != value:
                raise InputError(
                    f"{where} (prompt {row['prompt_id']}): {column} is {row[column]}, that of "
                    f"the configured LM is {value}: made with another LM or tokenizer"
                )
        judges.add(row["judge_revision"])
        scorers.add(row.get("scorer") or "judge")
        mixture.records += records(row)
    mixture.sources.append(
        {
            "folder": path,
            "kind": kind,
            "rows": rows,
            "responses": len(mixture.records) - before,
            "judge_revisions": sorted(filter(None, judges)),
            "scorers": sorted(scorers),
        }
    )


def _rows(path: str, kind: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Finished rows of a finished run, in order, each with its place."""
    try:
        folder = Folder(path)
        if not folder.exists(SUCCESS):
            raise InputError(f"{path} is no finished run folder of {kind}")
        for found in folder.files(DATA):
            with folder.fs.open_input_file(folder.path(found.name)) as source:
                file = pq.ParquetFile(source)
                mark = (file.schema_arrow.metadata or {}).get(KIND, b"?").decode()
                if mark.partition("/")[0] != kind:
                    raise InputError(f"{path}/{found.name} holds {mark}, not {kind}")
                number = 0
                for batch in file.iter_batches(batch_size=1024):
                    for row in batch.to_pylist():
                        number += 1
                        yield row, f"{path}/{found.name} row {number}"
    except (OSError, ValueError, ImportError, StoreError, pa.ArrowException) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _prompt(row: Mapping[str, Any]) -> Prompt:
    asked = [t for t in row["prompt"] if t["role"] != "system" or row["system"] is None]
    return Prompt(
        row["prompt_id"],
        tuple({"role": t["role"], "content": t["content"]} for t in asked),
        system=row["system"],
        answer=row["expected_answer"],
        sample=row["sample"],
    )


def _record(row: dict[str, Any], data: Data) -> Record:
    odds: Callable[[float], float] = float
    if row["scorer"] == "verifier":

        def odds(score: float) -> float:
            p = data.doubt + (1 - 2 * data.doubt) * score
            return log(p / (1 - p))

    places = tuple(
        Place(p.position, p.confidence, p.tokens, p.log_probabilities, tuple(map(odds, p.scores)))
        for p in map(place_of, row["places"])
    )
    return Record(
        f"{row['prompt_id']}#{row['sample']}",
        _prompt(row),
        tuple(row["response_token_ids"]),
        odds(row["score"]),
        places,
    )


def revised(row: Mapping[str, Any], encode: Tokens, left_out: Counter[str]) -> list[Record]:
    """What a trace's revisions say about its last response and its first."""
    revisions = [r for r in row["revisions"] or [] if r["reward_after"] is not None]
    if row["reward"] is None or not revisions:
        return []
    final = tuple(row["response_token_ids"])
    accepted = [n for n, r in enumerate(revisions) if r["accepted"]]
    last = accepted[-1] if accepted else -1
    tries = [_pair(r) for r in revisions[last + 1 :]]
    if accepted:
        tries.append(_pair(revisions[last], turned=True))
    name = f"{row['prompt_id']}#{row['sample']}"
    found = [Record(name, _prompt(row), final, row["reward"], _places(tries))]
    if accepted:
        first = revisions[: accepted[0] + 1]
        base = _first_response(row, first, encode)
        used = len(tries)
        if base is not None:
            places = _places([_pair(r) for r in first])
            found.append(Record(f"{name} (base)", _prompt(row), base, row["base_reward"], places))
            used += len(first) - (accepted[0] == last)
        left_out["revisions of responses that are not kept"] += len(revisions) - used
    return found


def _first_response(
    row: Mapping[str, Any], revisions: Sequence[Mapping[str, Any]], encode: Tokens
) -> tuple[int, ...] | None:
    """The first response's ids, if its text encodes to what its revisions say stood there."""
    ids = tuple(encode(row["base_response"]))
    fits = all(
        r["position"] < len(ids) and ids[r["position"]] == r["from_token"] for r in revisions
    )
    return ids if fits else None


_Try = tuple[int, float, int, float, int, float]


def _pair(revision: Mapping[str, Any], *, turned: bool = False) -> _Try:
    taken = (revision["from_token"], revision["reward_before"])
    tried = (revision["to_token"], revision["reward_after"])
    if turned:
        taken, tried = tried, taken
    return (revision["position"], revision["confidence"], *taken, *tried)


def _places(tries: Sequence[_Try]) -> tuple[Place, ...]:
    """Tries by position. The LM's log-probabilities are not kept in traces: 0 stands there."""
    by_position: dict[int, list[_Try]] = {}
    for one in tries:
        by_position.setdefault(one[0], []).append(one)
    return tuple(
        Place(
            position,
            group[0][1],
            (group[0][2], *(g[4] for g in group)),
            (0.0,) * (len(group) + 1),
            (group[0][3], *(g[5] for g in group)),
        )
        for position, group in sorted(by_position.items())
    )
