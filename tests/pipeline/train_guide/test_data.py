"""Training records from the run folders of other jobs."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from pathlib import Path

import pytest

from nabla_core.guide_training.settings import Target
from nabla_core.methods.counterfactuals import Place
from nabla_core.types import Identity
from pipeline.errors import InputError
from pipeline.store.parts import with_config
from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store
from pipeline.tables.counterfactual_totals import COLUMNS, summarise
from pipeline.tables.counterfactuals import COUNTERFACTUALS
from pipeline.tables.traces import TRACES, key_columns, prompt_columns
from pipeline.train_guide.config import Data
from pipeline.train_guide.data import check_folders, mix
from tests.pipeline.rows import item
from tests.pipeline.train_guide.folders import (
    BEARS,
    EXPLORED,
    PLACES,
    explored_row,
    folder,
    read,
)
from tests.pipeline.train_guide.test_revisions import revision, trace_row


def test_counterfactuals_come_back_as_they_were(tmp_path: Path):
    rows = [explored_row(name, config_hash="c0ffee") for name in "ab"]
    path = folder(tmp_path, COUNTERFACTUALS, rows)
    found = read(counterfactuals=path)
    first, second = found.records
    assert (first.name, second.name) == ("a#0", "b#0")
    assert first.places == PLACES
    assert first.tokens == EXPLORED.tokens
    assert first.score == 1.0
    assert first.prompt == item("a").prompt
    assert found.sources == [
        {
            "folder": tmp_path.name,
            "config_hashes": ["c0ffee"],
            "kind": "counterfactuals",
            "complete": True,
            "rows": 2,
            "responses": 2,
            "flops": 10.0,
            "judge_revisions": ["j1"],
            "scorers": ["judge"],
        }
    ]
    assert len(read(counterfactuals=path, limit=1).records) == 1


def test_a_verifiers_verdicts_become_log_odds(tmp_path: Path):
    tails = ((0.0, 1.0), (1.0, 1.0))
    place = Place(1, 0.5, (5, 6), (-1, -1), (0.5, 1.0), tails)
    right = replace(EXPLORED, score=0.0, places=(place,))
    path = folder(tmp_path, COUNTERFACTUALS, [explored_row("a", right, scorer="verifier")])
    (record,) = read(counterfactuals=path, label_smoothing=0.1).records
    assert record.places[0].scores == pytest.approx((0.0, log(9)))
    assert record.score == pytest.approx(-log(9))
    # The log-odds of each verdict, then their soft value: log((9 + 1/9) / 2).
    soft = Target(value="soft", beta=1.0)
    (record,) = read(soft, counterfactuals=path, label_smoothing=0.1).records
    assert record.places[0].scores == pytest.approx((log((9 + 1 / 9) / 2), log(9)))


def test_soft_values_are_over_the_tails_of_a_token(tmp_path: Path):
    path = folder(tmp_path, COUNTERFACTUALS, [explored_row("a")])
    (record,) = read(Target(value="soft", beta=2.0), counterfactuals=path).records
    for place, stored in zip(record.places, PLACES, strict=True):
        expected = [
            2 * log(sum(exp(score / 2) for score in scores) / len(scores))
            for scores in stored.tail_scores
        ]
        assert place.scores == pytest.approx(expected)
        assert place.scores != pytest.approx(stored.scores)


def test_soft_values_of_single_tails_are_refused_by_row(tmp_path: Path):
    single = Place(1, 0.5, (5, 6), (-1, -1), (0.5, 1.0), ((0.5,), (1.0,)))
    rows = [explored_row("a"), explored_row("b", replace(EXPLORED, places=(single,)))]
    path = folder(tmp_path, COUNTERFACTUALS, rows)
    assert len(read(counterfactuals=path).records) == 2
    with pytest.raises(InputError, match=r"row 2: each token has one tail.*explore.tails"):
        read(Target(value="soft"), counterfactuals=path)
    path = folder(tmp_path / "first", COUNTERFACTUALS, rows[1:])
    with pytest.raises(InputError, match=r"row 1: each token has one tail"):
        check_folders(Data((path,)), Target(value="soft"))


@pytest.mark.parametrize("column", ["generation_revision", "tokenizer_fingerprint"])
def test_data_of_another_lm_is_refused(tmp_path: Path, column: str):
    rows = [explored_row("a"), explored_row("b", **{column: "other"})]
    path = folder(tmp_path / "explored", COUNTERFACTUALS, rows)
    other = rf"\(prompt [ab]\): {column} is other, .* is .*1: "
    with pytest.raises(InputError, match=f"row 2 {other}"):
        read(counterfactuals=path)
    row = trace_row(revision(0, 4, 9, (1.0, 0.0)), tokens=(4, 0)) | {column: "other"}
    with pytest.raises(InputError, match=f"row 1 {other}"):
        read(traces=folder(tmp_path / "traces", TRACES, [row]))


def test_of_a_hub_the_model_must_be_the_same_too(tmp_path: Path):
    bears = {"generation_revision": "main", "generation_model": "org/one"}
    path = folder(tmp_path, COUNTERFACTUALS, [explored_row("a", **bears)])
    asked = {"data": Data((path,)), "target": Target(), "tokenizer": "tok1"}
    assert len(mix(lm=Identity("org/one", "main"), **asked).records) == 1
    with pytest.raises(InputError, match=r"generation_model is org/one, .* is org/two"):
        mix(lm=Identity("org/two", "main"), **asked)


def test_other_folders_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="no finished run folder of counterfactuals"):
        read(counterfactuals=str(tmp_path))
    path = folder(tmp_path / "run", COUNTERFACTUALS, [explored_row("a")])
    with pytest.raises(InputError, match="holds counterfactuals/4, not traces"):
        read(traces=path)
    with pytest.raises(ValueError, match="at least one folder"):
        Data()


def test_of_a_run_that_was_cut_short_the_committed_rows_are_taken_and_the_card_says_so(
    tmp_path: Path,
):
    store = RunStore(str(tmp_path / "run"), with_config(COUNTERFACTUALS, "c0ffee"), Store())
    store.commit([explored_row("a"), explored_row("b"), explored_row("c", error="out of memory")])
    store.commit([explored_row("b")])  # a row may be committed twice
    path = str(tmp_path / "run")
    with pytest.raises(InputError, match=r"\(allow_partial takes its committed rows\)"):
        read(counterfactuals=path)
    mixture = read(counterfactuals=path, allow_partial=True)
    assert [record.prompt.id for record in mixture.records] == ["a", "b"]
    (source,) = mixture.sources
    assert (source["rows"], source["complete"]) == (2, False)
    check_folders(Data((path,), allow_partial=True), Target())
    (whole,) = read(
        counterfactuals=folder(tmp_path / "whole", COUNTERFACTUALS, [explored_row("a")])
    ).sources
    assert whole["complete"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no run folder of counterfactuals with committed rows"):
        read(counterfactuals=str(tmp_path / "empty"), allow_partial=True)


def test_a_summary_is_of_the_committed_rows(tmp_path: Path):
    store = RunStore(str(tmp_path), with_config(COUNTERFACTUALS, "c0ffee"), Store())
    dead = {**prompt_columns(item("b").prompt), **BEARS}
    store.commit([explored_row("a"), {**dead, **key_columns(item("b"), "w", 1, "ValueError: x")}])
    found = summarise(store.rows(COLUMNS, final=False))
    assert (found["responses"], found["places"], found["alternatives"]) == (1, 2, 3)
    assert found["better"] == 0.5
    assert found["dead_by_error"] == {"ValueError": 1}
    assert found["cost"]["rollouts"] == 6
