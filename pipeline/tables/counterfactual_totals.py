"""Totals over rows of counterfactuals, for the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from pipeline.tables.trace_totals import error_type

COLUMNS = (
    *("error", "score", "scorer", "places", "cost", "tokenizer_fingerprint"),
    *(f"{m}_{f}" for m in ("generation", "judge") for f in ("model", "revision")),
)


def summarise(tables: Iterable[pa.Table]) -> dict[str, Any]:
    """Totals of tables with `COLUMNS`, ready for JSON.

    `better` is the share of positions where an alternative scored higher than the token taken;
    `mean_score` is that of the responses.
    """
    dead: Counter[str] = Counter()
    cost: Counter[str] = Counter()
    models: dict[str, Any] = {}
    responses = places = alternatives = better = 0
    score = 0.0
    for table in tables:
        for row in table.to_pylist():
            if row["error"] is not None:
                dead[error_type(row["error"])] += 1
                continue
            models = _models(row)
            cost.update(row["cost"])
            responses += 1
            score += row["score"]
            places += len(row["places"])
            alternatives += sum(len(place["scores"]) for place in row["places"])
            better += len([p for p in row["places"] if max(p["scores"]) > p["taken_score"]])
    return {
        "models": models,
        "dead_by_error": dict(dead.most_common()),
        "responses": responses,
        "places": places,
        "alternatives": alternatives,
        "mean_score": score / responses if responses else None,
        "better": better / places if places else None,
        "cost": dict(cost),
    }


def _models(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "generation": {
            "name": row["generation_model"],
            "revision": row["generation_revision"],
            "tokenizer": row["tokenizer_fingerprint"],
        },
        "judge": {"name": row["judge_model"], "revision": row["judge_revision"]},
        "scorer": row["scorer"],
    }
