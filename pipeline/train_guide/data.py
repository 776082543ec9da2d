"""Counterfactuals for training: the run folders of `jobs.counterfactuals` and `jobs.generate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import log
from typing import Any

from nabla_core.guide_training.examples import Record
from nabla_core.methods.counterfactuals import Place
from nabla_core.types import Identity
from pipeline.errors import InputError
from pipeline.store.reader import finished_rows
from pipeline.tables.counterfactuals import COUNTERFACTUALS, place_of
from pipeline.tables.traces import TRACES
from pipeline.train_guide.data_config import Data
from pipeline.train_guide.revisions import Tokens, prompt_of, revised

TABLES = {"counterfactuals": COUNTERFACTUALS, "traces": TRACES}


@dataclass
class Mixture:
    """Records of all folders, where they come from, and what was left out."""

    records: list[Record] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def mix(data: Data, *, lm: Identity, tokenizer: str, encode: Tokens) -> Mixture:
    """Read every folder of `data`.

    Rows must be of this `lm` and `tokenizer` (a fingerprint); `encode` turns the text of a first
    response into the LM's ids. Raises InputError naming folder and row.
    """
    mixture = Mixture()
    of_lm = {"generation_revision": lm.revision}
    if not lm.digested:
        of_lm["generation_model"] = lm.name
    for path in data.counterfactuals:
        wanted = of_lm | {"tokenizer_fingerprint": tokenizer}
        _add(mixture, data, path, "counterfactuals", wanted, lambda row: [_record(row, data)])
    for path in data.traces:
        _add(
            mixture,
            data,
            path,
            "traces",
            of_lm,
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
    for row, where in finished_rows(path, TABLES[kind]):
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


def _record(row: dict[str, Any], data: Data) -> Record:
    odds: Callable[[float], float] = float
    if row["scorer"] == "verifier":

        def odds(score: float) -> float:
            p = data.label_smoothing + (1 - 2 * data.label_smoothing) * score
            return log(p / (1 - p))

    places = tuple(
        Place(p.position, p.confidence, p.tokens, p.log_probabilities, tuple(map(odds, p.scores)))
        for p in map(place_of, row["places"])
    )
    return Record(
        f"{row['prompt_id']}#{row['sample']}",
        prompt_of(row),
        tuple(row["response_token_ids"]),
        odds(row["score"]),
        places,
    )


def look(data: Data) -> None:
    """Whether every folder of `data` holds what it should; reads no more than first rows.

    Raises InputError, as reading it all would after models were loaded.
    """
    for kind, paths in (("counterfactuals", data.counterfactuals), ("traces", data.traces)):
        for path in paths:
            next(finished_rows(path, TABLES[kind]), None)
