"""The table of counterfactuals: one row for each response, with the alternatives tried in it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pyarrow as pa

from nabla_core.methods.counterfactuals import Explored, Place
from pipeline.tables.traces import COST, KEYS, TURNS

# As in `pipeline.tables.traces`.
VERSION = "4"

# One struct for each explored position. Scores are rewards or verdicts (column `scorer`): that of
# each tail, and their mean. Log-probabilities are the LM's, in nats. The token taken is not among
# the alternatives.
_PLACES = pa.list_(
    pa.struct(
        [
            ("position", pa.int32()),
            ("confidence", pa.float64()),
            ("taken_token", pa.int32()),
            ("taken_score", pa.float64()),
            ("taken_tail_scores", pa.list_(pa.float64())),
            ("taken_log_probability", pa.float64()),
            ("alternatives", pa.list_(pa.int32())),
            ("scores", pa.list_(pa.float64())),
            ("tail_scores", pa.list_(pa.list_(pa.float64()))),
            ("log_probabilities", pa.list_(pa.float64())),
        ]
    )
)

COUNTERFACTUALS = pa.schema(
    [
        *KEYS[:2],
        ("question", pa.string()),
        ("prompt", TURNS),
        ("messages", TURNS),
        ("system", pa.string()),
        ("tools", pa.string()),
        ("rendered_prompt", pa.string()),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("response", pa.string()),
        ("response_token_ids", pa.list_(pa.int32())),
        ("finish_reason", pa.string()),
        ("temperature", pa.float64()),
        ("score", pa.float64()),
        ("scorer", pa.string()),
        ("places", _PLACES),
        ("expected_answer", pa.string()),
        ("judge_model", pa.string()),
        ("judge_revision", pa.string()),
        ("generation_model", pa.string()),
        ("generation_revision", pa.string()),
        ("tokenizer_fingerprint", pa.string()),
        ("cost", COST),
        ("seed", pa.int64()),
        ("config_hash", pa.string()),
        *KEYS[2:],
    ],
    metadata={"nabla_schema": f"counterfactuals/{VERSION}"},
)


def explored_columns(explored: Explored) -> dict[str, Any]:
    """The columns of the response and of the alternatives with their scores."""
    return {
        "rendered_prompt": explored.prompt_text,
        "prompt_token_ids": list(explored.prompt_tokens),
        "response": explored.text,
        "response_token_ids": list(explored.tokens),
        "finish_reason": explored.finish_reason,
        "temperature": explored.temperature,
        "score": explored.score,
        "places": [_place_row(place) for place in explored.places],
        "cost": asdict(explored.cost),
    }


def place_of(row: dict[str, Any]) -> Place:
    """The record of a struct in the column `places`."""
    return Place(
        position=row["position"],
        confidence=row["confidence"],
        tokens=(row["taken_token"], *row["alternatives"]),
        log_probabilities=(row["taken_log_probability"], *row["log_probabilities"]),
        scores=(row["taken_score"], *row["scores"]),
        tail_scores=tuple(map(tuple, (row["taken_tail_scores"], *row["tail_scores"]))),
    )


def _place_row(place: Place) -> dict[str, Any]:
    return {
        "position": place.position,
        "confidence": place.confidence,
        "taken_token": place.tokens[0],
        "taken_score": place.scores[0],
        "taken_tail_scores": list(place.tail_scores[0]),
        "taken_log_probability": place.log_probabilities[0],
        "alternatives": list(place.tokens[1:]),
        "scores": list(place.scores[1:]),
        "tail_scores": [list(scores) for scores in place.tail_scores[1:]],
        "log_probabilities": list(place.log_probabilities[1:]),
    }
