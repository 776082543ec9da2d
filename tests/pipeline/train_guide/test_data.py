"""Counterfactuals read back, and what the revisions of traces amount to."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest

from nabla_core.methods.counterfactuals import Explored, Place
from nabla_core.types import Cost, Identity, Revision, Trace
from pipeline.errors import InputError
from pipeline.store.parts import with_config
from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store
from pipeline.store.slots import Slots
from pipeline.tables.counterfactual_totals import COLUMNS, summarise
from pipeline.tables.counterfactuals import COUNTERFACTUALS, explored_columns
from pipeline.tables.traces import TRACES, key_columns, prompt_columns, trace_columns
from pipeline.train_guide.config import Data
from pipeline.train_guide.data import mix
from pipeline.train_guide.revisions import records_of_trace
from tests.pipeline.rows import inputs, item

PLACES = (
    Place(1, 0.75, (5, 6, 7), (-0.5, -1.0, -9.0), (1.0, 3.0, 0.0)),
    Place(3, 0.5, (8, 9), (-0.25, -2.0), (1.0, 0.5)),
)
EXPLORED = Explored(
    prompt_id="a", sample=0, prompt_text="rendered", prompt_tokens=(1, 2), tokens=(4, 5, 6, 8),
    text="text", finish_reason="stop", temperature=0.7, score=1.0, places=PLACES, seed=0,
    cost=Cost(rollouts=6),
)  # fmt: skip
LM = Identity("lm", "sha256:lm1")
BEARS = {
    "generation_model": "lm elsewhere",
    "generation_revision": "sha256:lm1",
    "tokenizer_fingerprint": "tok1",
    "judge_revision": "j1",
}


def folder(path: Path, schema: Any, rows: list[dict[str, Any]]) -> str:
    store = RunStore(str(path), with_config(schema, "c0ffee"), Store())
    store.commit(rows)
    slots = Slots(inputs([row["prompt_id"] for row in rows]), 1)
    store.rescan(slots)
    store.compact(slots)
    store.succeed()
    return str(path)


def explored_row(name: str, explored: Explored = EXPLORED, **changes: Any) -> dict[str, Any]:
    of = item(name)
    row = {**prompt_columns(of.prompt), **explored_columns(explored), **BEARS, "scorer": "judge"}
    return {**row, **key_columns(of, "worker", 1, None), **changes}


def read(**data: Any) -> Any:
    asked = Data(**{k: (v,) if isinstance(v, str) else v for k, v in data.items()})
    return mix(asked, lm=LM, tokenizer="tok1", encode=lambda text: [ord(text), 0])


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
            "rows": 2,
            "responses": 2,
            "judge_revisions": ["j1"],
            "scorers": ["judge"],
        }
    ]
    assert len(read(counterfactuals=path, limit=1).records) == 1


def test_a_verifiers_verdicts_become_log_odds(tmp_path: Path):
    right = replace(EXPLORED, score=0.0, places=(Place(1, 0.5, (5, 6), (-1, -1), (0.5, 1.0)),))
    path = folder(tmp_path, COUNTERFACTUALS, [explored_row("a", right, scorer="verifier")])
    (record,) = read(counterfactuals=path, label_smoothing=0.1).records
    assert record.places[0].scores == pytest.approx((0.0, log(9)))
    assert record.score == pytest.approx(-log(9))


@pytest.mark.parametrize("column", ["generation_revision", "tokenizer_fingerprint"])
def test_another_lms_counterfactuals_are_refused(tmp_path: Path, column: str):
    rows = [explored_row("a"), explored_row("b", **{column: "other"})]
    path = folder(tmp_path, COUNTERFACTUALS, rows)
    with pytest.raises(InputError, match=rf"row 2 \(prompt b\): {column} is other, .* is .*1: "):
        read(counterfactuals=path)


def test_of_a_hub_the_model_must_be_the_same_too(tmp_path: Path):
    bears = {"generation_revision": "main", "generation_model": "org/one"}
    path = folder(tmp_path, COUNTERFACTUALS, [explored_row("a", **bears)])
    asked = {"data": Data((path,)), "tokenizer": "tok1", "encode": ord}
    assert len(mix(lm=Identity("org/one", "main"), **asked).records) == 1
    with pytest.raises(InputError, match=r"generation_model is org/one, .* is org/two"):
        mix(lm=Identity("org/two", "main"), **asked)


def test_other_folders_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="no finished run folder of counterfactuals"):
        read(counterfactuals=str(tmp_path))
    path = folder(tmp_path / "run", COUNTERFACTUALS, [explored_row("a")])
    with pytest.raises(InputError, match="holds counterfactuals/2, not traces"):
        read(traces=path)
    with pytest.raises(ValueError, match="at least one folder"):
        Data()


def revision(position: int, old: int, new: int, rewards: tuple[float, float | None]) -> Revision:
    before, after = rewards
    accepted = after is not None and after > before
    return Revision(
        position=position, from_token=old, to_token=new, from_text="?", to_text="?",
        confidence=0.5, grad_norm=0.1, advantage=0.2, reward_before=before, reward_after=after,
        accepted=accepted,
    )  # fmt: skip


def trace_row(*revisions: Revision, tokens: tuple[int, ...], base: str = "?") -> dict[str, Any]:
    of = item("a")
    rewards = [r.reward_after for r in revisions if r.accepted]
    trace = Trace(
        prompt_id="a", sample=0, prompt_text="rendered", text="text", tokens=tokens,
        finish_reason="stop", base_text=base, base_reward=revisions[0].reward_before,
        reward=rewards[-1] if rewards else revisions[0].reward_before, revisions=revisions, seed=0,
    )  # fmt: skip
    columns = {**prompt_columns(of.prompt), **trace_columns(of.prompt, trace)}
    return {**columns, **BEARS, "config_hash": "x", **key_columns(of, "worker", 1, None)}


def test_rejected_revisions_are_counterfactuals_of_the_response(tmp_path: Path):
    row = trace_row(
        revision(1, 5, 6, (1.0, 0.5)),
        revision(1, 5, 7, (1.0, 1.0)),
        revision(0, 4, 9, (1.0, -1.0)),
        revision(0, 4, 8, (1.0, None)),  # the judge could not read it
        tokens=(4, 5, 0),
    )
    left = Counter[str]()
    (record,) = records_of_trace(row, lambda text: [], left)
    assert record.tokens == (4, 5, 0)
    assert record.score == 1.0
    assert record.places == (
        Place(0, 0.5, (4, 9), (0.0, 0.0), (1.0, -1.0)),
        Place(1, 0.5, (5, 6, 7), (0.0, 0.0, 0.0), (1.0, 0.5, 1.0)),
    )
    assert left.total() == 0
    # The same through the files, mixed with counterfactuals.
    traces = folder(tmp_path / "traces", TRACES, [row])
    others = folder(tmp_path / "more", COUNTERFACTUALS, [explored_row("b")])
    mixed = read(counterfactuals=others, traces=traces)
    assert mixed.records[1] == record
    assert [s["kind"] for s in mixed.sources] == ["counterfactuals", "traces"]


def test_acceptances_are_seen_from_both_sides_and_what_lies_between_is_counted():
    row = trace_row(
        revision(2, 6, 9, (0.0, -1.0)),  # of the first response
        revision(1, 5, 7, (0.0, 1.0)),  # accepted: leaves the first
        revision(2, 3, 4, (1.0, 0.5)),  # of the second, which is not kept
        revision(0, 4, 8, (1.0, 2.0)),  # accepted: makes the last
        revision(1, 2, 3, (2.0, 1.5)),  # of the last
        tokens=(8, 2, 0),
        base="first",
    )
    left = Counter[str]()
    last, first = records_of_trace(row, lambda text: [4, 5, 6, 0], left)
    assert (last.tokens, last.score) == ((8, 2, 0), 2.0)
    assert last.places == (
        Place(0, 0.5, (8, 4), (0.0, 0.0), (2.0, 1.0)),
        Place(1, 0.5, (2, 3), (0.0, 0.0), (2.0, 1.5)),
    )
    assert (first.tokens, first.score) == ((4, 5, 6, 0), 0.0)
    assert first.places == (
        Place(1, 0.5, (5, 7), (0.0, 0.0), (0.0, 1.0)),
        Place(2, 0.5, (6, 9), (0.0, 0.0), (0.0, -1.0)),
    )
    assert left["revisions of responses that are not kept"] == 1
    # A first response whose text does not encode to what stood there is not trusted.
    left.clear()
    assert len(records_of_trace(row, lambda text: [4, 1, 6, 0], left)) == 1
    assert left["revisions of responses that are not kept"] == 3


def test_what_a_batch_tried_beside_its_winner_is_not_of_the_last_response():
    """As `take: best` leaves it: the winner of a batch stands before others of the batch."""
    row = trace_row(
        revision(1, 5, 6, (0.0, 1.0)),  # accepted
        revision(0, 4, 9, (0.0, -1.0)),  # of its batch: tried in the first response
        revision(2, 7, 8, (0.0, -0.5)),
        revision(0, 4, 3, (1.0, 0.5)),  # of the last response
        revision(0, 4, 4, (1.0, 1.0)),  # nothing was changed (decoding.method: mh)
        tokens=(4, 6, 0),
        base="first",
    )
    left = Counter[str]()
    last, first = records_of_trace(row, lambda text: [4, 5, 7, 0], left)
    assert last.places == (
        Place(0, 0.5, (4, 3), (0.0, 0.0), (1.0, 0.5)),
        Place(1, 0.5, (6, 5), (0.0, 0.0), (1.0, 0.0)),
    )
    assert first.places == (Place(1, 0.5, (5, 6), (0.0, 0.0), (0.0, 1.0)),)
    assert left["revisions of responses that are not kept"] == 2


def test_a_trace_without_revisions_says_nothing():
    row = trace_row(revision(0, 4, 9, (1.0, 0.0)), tokens=(4, 0)) | {"revisions": []}
    assert records_of_trace(row, lambda text: [], Counter()) == []


def test_a_summary_is_of_the_committed_rows(tmp_path: Path):
    store = RunStore(str(tmp_path), with_config(COUNTERFACTUALS, "c0ffee"), Store())
    dead = {**prompt_columns(item("b").prompt), **BEARS}
    store.commit([explored_row("a"), {**dead, **key_columns(item("b"), "w", 1, "ValueError: x")}])
    found = summarise(store.rows(COLUMNS, final=False))
    assert (found["responses"], found["places"], found["alternatives"]) == (1, 2, 3)
    assert found["better"] == 0.5
    assert found["dead_by_error"] == {"ValueError": 1}
    assert found["cost"]["rollouts"] == 6
