"""Totals over rows of counterfactuals, for the manifest and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from pipeline.tables.trace_totals import kind_of

COLUMNS = (
    *("error", "score", "scorer", "places", "cost", "tokenizer_fingerprint"),
    *(f"{m}_{f}" for m in ("generation", "judge") for f in ("model", "revision")),
)


def summarise(tables: Iterable[pa.Table]) -> dict[str, Any]:
    """Ready for JSON. `better`: the share of places where some alternative scored higher than
    the token taken; `means` are over responses and over alternatives."""
    dead: Counter[str] = Counter()
    cost: Counter[str] = Counter()
    count: Counter[str] = Counter()
    models: dict[str, Any] = {}
    for table in tables:
        for row in table.to_pylist():
            if row["error"] is not None:
                dead[kind_of(row["error"])] += 1
                continue
            models = {
                "generation": {
                    "name": row["generation_model"],
                    "revision": row["generation_revision"],
                    "tokenizer": row["tokenizer_fingerprint"],
                },
                "judge": {"name": row["judge_model"], "revision": row["judge_revision"]},
                "scorer": row["scorer"],
            }
            cost.update(row["cost"])
            count["responses"] += 1
            count["score"] += row["score"]
            for place in row["places"]:
                count["places"] += 1
                count["alternatives"] += len(place["scores"])
                count["better"] += max(place["scores"]) > place["taken_score"]
    responses, places = count["responses"], count["places"]
    return {
        "models": models,
        "dead_by_error": dict(dead.most_common()),
        "responses": responses,
        "places": places,
        "alternatives": count["alternatives"],
        "mean_score": count["score"] / responses if responses else None,
        "better": count["better"] / places if places else None,
        "cost": dict(cost),
    }
