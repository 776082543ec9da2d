"""Rows of counterfactuals and their totals."""

import pyarrow as pa
import pytest

from nabla_core.methods.counterfactuals import Explored, Place
from nabla_core.types import Cost
from pipeline.tables.counterfactual_totals import COLUMNS, summarise
from pipeline.tables.counterfactuals import COUNTERFACTUALS, explored_columns, place_of
from pipeline.tables.traces import key_columns, prompt_columns
from tests.pipeline.rows import item

PLACES = (
    Place(
        1, 0.75, (5, 6, 7), (-0.5, -1.0, -9.0), (1.0, 3.0, 0.0),
        ((0.0, 2.0), (2.0, 4.0), (-1.0, 1.0)),
    ),
    Place(3, 0.5, (8, 9), (-0.25, -2.0), (1.0, 0.5), ((1.0, 1.0), (0.0, 1.0))),
)  # fmt: skip
MODELS = {
    "generation_model": "embedded:lm",
    "generation_revision": "sha256:1",
    "tokenizer_fingerprint": "t",
    "judge_model": "embedded:judge",
    "judge_revision": "sha256:2",
    "scorer": "judge",
}


def explored(name: str, *, error: str | None = None) -> dict:
    of = item(name)
    made = prompt_columns(of.prompt) | key_columns(of, "worker", 1, error) | MODELS
    if error is not None:
        return made
    return made | explored_columns(
        Explored(
            prompt_id=name,
            sample=0,
            prompt_text="rendered",
            prompt_tokens=(1, 2),
            tokens=(4, 5, 6, 8),
            text="text",
            finish_reason="stop",
            temperature=0.7,
            score=1.0,
            places=PLACES,
            seed=0,
            cost=Cost(rollouts=6),
        )
    )


def table(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=COUNTERFACTUALS)


def test_places_are_read_back_as_they_were():
    (read,) = table(explored("p0")).to_pylist()
    assert tuple(map(place_of, read["places"])) == PLACES
    assert read["response_token_ids"] == [4, 5, 6, 8]


def test_totals_are_over_responses_positions_and_alternatives():
    tables = [table(explored("p0"), explored("p1", error="ValueError: no")), table(explored("p2"))]
    found = summarise(t.select(COLUMNS) for t in tables)
    assert (found["responses"], found["places"], found["alternatives"]) == (2, 4, 6)
    assert found["better"] == pytest.approx(0.5)
    assert found["mean_score"] == pytest.approx(1.0)
    assert found["dead_by_error"] == {"ValueError": 1}
    assert found["cost"]["rollouts"] == 12
    assert found["models"]["generation"] == {
        "name": "embedded:lm",
        "revision": "sha256:1",
        "tokenizer": "t",
    }
    assert found["models"]["scorer"] == "judge"


def test_no_responses_have_no_means():
    found = summarise([])
    assert (found["better"], found["mean_score"], found["responses"]) == (None, None, 0)
