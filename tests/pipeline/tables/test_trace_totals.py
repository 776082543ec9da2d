"""Totals of committed traces."""

import pyarrow as pa
import pytest

from pipeline.tables.trace_totals import COLUMNS, Summary, error_type
from pipeline.tables.traces import TRACES
from tests.pipeline.rows import item, row


def table(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=TRACES).select(COLUMNS)


def test_sums_and_means_are_over_all_tables():
    better = row(item("p0")) | {"reward": 1.0, "base_reward": 0.0, "correct": True}
    same = row(item("p1")) | {"reward": 0.0, "base_reward": 0.0, "correct": False, "revisions": []}
    dead = [row(item(name), error="ValueError: no") for name in ("p2", "p3")]
    found = Summary.of([table(better, dead[0]), table(same, dead[1])])
    assert (found.rows, found.dead) == (2, {"ValueError": 2})
    assert (found.proposed, found.accepted, found.revised) == (1, 1, 1)
    assert found.mean("reward") == pytest.approx(0.5)
    assert found.mean("correct") == pytest.approx(0.5)
    assert found.mean("base_correct") is None
    assert found.cost["rollouts"] == 4
    made = found.as_dict()
    assert made["proposals"] == {"made": 1, "accepted": 1}
    assert made["means"]["base_reward"] == 0.0


def test_models_are_those_of_the_first_row_that_names_them():
    named = row(item("p1")) | {"judge_model": "embedded:judge", "judge_revision": "sha256:1"}
    found = Summary.of([table(row(item("p0"))), table(named)])
    assert found.models == {"judge": {"name": "embedded:judge", "revision": "sha256:1"}}


def test_no_rows_have_no_means():
    made = Summary.of([]).as_dict()
    assert set(made["means"].values()) == {None}
    assert (made["models"], made["cost"], made["revised"]) == ({}, {}, 0)


def test_the_type_of_an_error_comes_before_the_colon():
    assert error_type("ContextError: prompt p0: too long") == "ContextError"
    assert error_type("ContextError") == "ContextError"
