"""Training records from the run folders of `jobs.counterfactuals` and `jobs.generate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import log
from pathlib import PurePath
from typing import Any

from nabla_core.guide_training.examples import Record
from nabla_core.guide_training.settings import Target
from nabla_core.guide_training.values import with_soft_values
from nabla_core.methods.counterfactuals import Place
from nabla_core.types import Identity
from pipeline.errors import InputError
from pipeline.store.files import Folder
from pipeline.store.final import SUCCESS
from pipeline.store.reader import finished_rows
from pipeline.tables.counterfactuals import COUNTERFACTUALS, place_of
from pipeline.tables.traces import TRACES, prompt_of
from pipeline.train_guide.config import Data
from pipeline.train_guide.revisions import records_of_trace

TABLES = {"counterfactuals": COUNTERFACTUALS, "traces": TRACES}


@dataclass
class Mixture:
    """The records of all folders, a description of each folder (for the guide's card), and the
    number of records that were left out, by reason."""

    records: list[Record] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def mix(data: Data, *, target: Target, lm: Identity, tokenizer: str) -> Mixture:
    """Read all folders of `data`. Scores become the values that `target` asks for.

    Their rows must have been made with `lm` and `tokenizer` (a fingerprint): token ids of others
    would be meaningless. Raises InputError naming folder and row, also where `target.value: soft`
    finds single tails.
    """
    mixture = Mixture()
    expected = {"generation_revision": lm.revision, "tokenizer_fingerprint": tokenizer}
    if not lm.digested:  # a commit does not tell which repository it is from
        expected["generation_model"] = lm.name

    def of_counterfactuals(row: dict[str, Any], location: str) -> list[Record]:
        if target.value == "soft":
            require_tails(row, location)
        return [_record(row, data.label_smoothing, target)]

    def of_trace(row: dict[str, Any], location: str) -> list[Record]:
        return records_of_trace(row, mixture.left_out)

    for path in data.counterfactuals:
        _add(mixture, path, "counterfactuals", data, expected, of_counterfactuals)
    for path in data.traces:
        _add(mixture, path, "traces", data, expected, of_trace)
    return mixture


def check_folders(data: Data, target: Target) -> None:
    """Raises InputError where a folder of `data` does not hold what it should, `target` included.
    Reads first rows only, so that the error comes before any model is loaded."""
    for kind, paths in (("counterfactuals", data.counterfactuals), ("traces", data.traces)):
        for path in paths:
            # The reader checks version, schema and completeness before it yields a row.
            rows = finished_rows(path, TABLES[kind], allow_partial=data.allow_partial)
            first = next(rows, None)
            if first is not None and kind == "counterfactuals" and target.value == "soft":
                require_tails(*first)


def _add(
    mixture: Mixture,
    path: str,
    kind: str,
    data: Data,
    expected: Mapping[str, str],
    records_of: Callable[[dict[str, Any], str], list[Record]],
) -> None:
    """Add the records of a folder's first `data.limit` rows and the description of the folder."""
    before, rows = len(mixture.records), 0
    configs, judges, scorers = set(), set(), set()
    flops = 0.0
    complete = Folder(path).exists(SUCCESS)
    for row, location in finished_rows(path, TABLES[kind], allow_partial=data.allow_partial):
        if rows == data.limit:
            break
        rows += 1
        for column, value in expected.items():
            if row[column] != value:
                raise InputError(
                    f"{location} (prompt {row['prompt_id']}): {column} is {row[column]}, that of "
                    f"the configured LM is {value}: made with another LM or tokenizer"
                )
        configs.add(row["config_hash"])
        flops += row["cost"]["flops"]
        judges.add(row["judge_revision"])
        scorers.add(row.get("scorer") or "judge")
        mixture.records += records_of(row, location)
    mixture.sources.append(
        {
            # By name and not by path, which is of this machine; the hashes tell which run it was.
            "folder": PurePath(path).name,
            "config_hashes": sorted(filter(None, configs)),
            "kind": kind,
            "complete": complete,
            "rows": rows,
            "responses": len(mixture.records) - before,
            "flops": flops,
            "judge_revisions": sorted(filter(None, judges)),
            "scorers": sorted(scorers),
        }
    )


def _record(row: dict[str, Any], label_smoothing: float, target: Target) -> Record:
    """A row of counterfactuals as a record. Verdicts of a verifier become log-odds."""

    def score(value: float) -> float:
        if row["scorer"] != "verifier":
            return float(value)
        # Without smoothing the log-odds of a certain verdict would be infinite.
        p = label_smoothing + (1 - 2 * label_smoothing) * value
        return log(p / (1 - p))

    def valued(place: Place) -> Place:
        if target.value == "mean":
            return replace(place, scores=tuple(map(score, place.scores)))
        tails = tuple(tuple(map(score, scores)) for scores in place.tail_scores)
        return with_soft_values(replace(place, tail_scores=tails), target)

    places = tuple(map(valued, map(place_of, row["places"])))
    return Record(
        f"{row['prompt_id']}#{row['sample']}",
        prompt_of(row),
        tuple(row["response_token_ids"]),
        score(row["score"]),
        places,
    )


def require_tails(row: dict[str, Any], location: str) -> None:
    """Raises InputError where a token of a row has a single tail: its soft value would be its
    mean, whatever beta is."""
    if any(len(place["taken_tail_scores"]) < 2 for place in row["places"]):
        raise InputError(
            f"{location}: each token has one tail, and target.value: soft is over several; make "
            "the counterfactuals with explore.tails of at least 2 and explore.tail.temperature 1, "
            "or set target.value: mean"
        )
