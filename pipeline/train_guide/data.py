"""Training records from the run folders of `jobs.counterfactuals` and `jobs.generate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import log
from pathlib import PurePath
from typing import Any

from nabla_core.guide_training.examples import Record
from nabla_core.types import Identity
from pipeline.errors import InputError
from pipeline.store.reader import finished_rows
from pipeline.tables.counterfactuals import COUNTERFACTUALS, place_of
from pipeline.tables.traces import TRACES
from pipeline.train_guide.config import Data
from pipeline.train_guide.revisions import Encode, prompt_of, records_of_trace

TABLES = {"counterfactuals": COUNTERFACTUALS, "traces": TRACES}


@dataclass
class Mixture:
    """The records of all folders, a description of each folder (for the guide's card), and the
    number of records that were left out, by reason."""

    records: list[Record] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def mix(data: Data, *, lm: Identity, tokenizer: str, encode: Encode) -> Mixture:
    """Read all folders of `data`.

    Their rows must have been made with `lm` and `tokenizer` (a fingerprint): token ids of others
    would be meaningless. `encode` turns the text of a response into ids of the LM. Raises
    InputError naming folder and row.
    """
    mixture = Mixture()
    expected = {"generation_revision": lm.revision}
    if not lm.digested:  # a commit does not tell which repository it is from
        expected["generation_model"] = lm.name

    def of_counterfactuals(row: dict[str, Any]) -> list[Record]:
        return [_record(row, data.label_smoothing)]

    def of_trace(row: dict[str, Any]) -> list[Record]:
        return records_of_trace(row, encode, mixture.left_out)

    for path in data.counterfactuals:
        with_tokenizer = expected | {"tokenizer_fingerprint": tokenizer}
        _add(mixture, path, "counterfactuals", data.limit, with_tokenizer, of_counterfactuals)
    for path in data.traces:
        _add(mixture, path, "traces", data.limit, expected, of_trace)
    return mixture


def check_folders(data: Data) -> None:
    """Raises InputError where a folder of `data` does not hold what it should. Reads first rows
    only, so that the error comes before any model is loaded."""
    for kind, paths in (("counterfactuals", data.counterfactuals), ("traces", data.traces)):
        for path in paths:
            # The reader checks version, schema and completeness before it yields a row.
            next(finished_rows(path, TABLES[kind]), None)


def _add(
    mixture: Mixture,
    path: str,
    kind: str,
    limit: int | None,
    expected: Mapping[str, str],
    records_of: Callable[[dict[str, Any]], list[Record]],
) -> None:
    """Add the records of a folder's first `limit` rows and the description of the folder."""
    before, rows = len(mixture.records), 0
    configs, judges, scorers = set(), set(), set()
    for row, location in finished_rows(path, TABLES[kind]):
        if rows == limit:
            break
        rows += 1
        for column, value in expected.items():
            if row[column] != value:
                raise InputError(
                    f"{location} (prompt {row['prompt_id']}): {column} is {row[column]}, that of "
                    f"the configured LM is {value}: made with another LM or tokenizer"
                )
        configs.add(row["config_hash"])
        judges.add(row["judge_revision"])
        scorers.add(row.get("scorer") or "judge")
        mixture.records += records_of(row)
    mixture.sources.append(
        {
            # By name and not by path, which is of this machine; the hashes tell which run it was.
            "folder": PurePath(path).name,
            "config_hashes": sorted(filter(None, configs)),
            "kind": kind,
            "rows": rows,
            "responses": len(mixture.records) - before,
            "judge_revisions": sorted(filter(None, judges)),
            "scorers": sorted(scorers),
        }
    )


def _record(row: dict[str, Any], label_smoothing: float) -> Record:
    """A row of counterfactuals as a record. Verdicts of a verifier become log-odds."""

    def score(value: float) -> float:
        if row["scorer"] != "verifier":
            return float(value)
        # Without smoothing the log-odds of a certain verdict would be infinite.
        p = label_smoothing + (1 - 2 * label_smoothing) * value
        return log(p / (1 - p))

    places = tuple(
        replace(place, scores=tuple(map(score, place.scores)))
        for place in map(place_of, row["places"])
    )
    return Record(
        f"{row['prompt_id']}#{row['sample']}",
        prompt_of(row),
        tuple(row["response_token_ids"]),
        score(row["score"]),
        places,
    )
