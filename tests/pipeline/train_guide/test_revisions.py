"""Revisions of a trace as counterfactuals."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from nabla_core.methods.counterfactuals import Place
from nabla_core.types import Revision, Trace
from pipeline.tables.counterfactuals import COUNTERFACTUALS
from pipeline.tables.traces import TRACES, key_columns, prompt_columns, trace_columns
from pipeline.train_guide.revisions import records_of_trace
from tests.pipeline.rows import item
from tests.pipeline.train_guide.folders import (
    BEARS,
    explored_row,
    folder,
    read,
)


def revision(position: int, old: int, new: int, rewards: tuple[float, float | None]) -> Revision:
    before, after = rewards
    accepted = after is not None and after > before
    return Revision(
        position=position, from_token=old, to_token=new, from_text="?", to_text="?",
        confidence=0.5, grad_norm=0.1, advantage=0.2, reward_before=before, reward_after=after,
        accepted=accepted, tail_token_ids=(new,),
    )  # fmt: skip


def trace_row(
    *revisions: Revision, tokens: tuple[int, ...], base: tuple[int, ...] = ()
) -> dict[str, Any]:
    of = item("a")
    rewards = [r.reward_after for r in revisions if r.accepted]
    trace = Trace(
        prompt_id="a", sample=0, prompt_text="rendered", text="text", tokens=tokens,
        finish_reason="stop", base_text="first", base_tokens=base,
        base_reward=revisions[0].reward_before,
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
    (record,) = records_of_trace(row, left)
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
        base=(4, 5, 6),  # cut by length: without a stop token
    )
    left = Counter[str]()
    last, first = records_of_trace(row, left)
    assert (last.tokens, last.score) == ((8, 2, 0), 2.0)
    assert last.places == (
        Place(0, 0.5, (8, 4), (0.0, 0.0), (2.0, 1.0)),
        Place(1, 0.5, (2, 3), (0.0, 0.0), (2.0, 1.5)),
    )
    assert (first.tokens, first.score) == ((4, 5, 6), 0.0)
    assert first.places == (
        Place(1, 0.5, (5, 7), (0.0, 0.0), (0.0, 1.0)),
        Place(2, 0.5, (6, 9), (0.0, 0.0), (0.0, -1.0)),
    )
    assert left["revisions of responses that are not kept"] == 1
    # A first response in which another token stood is not that of the revisions.
    left.clear()
    assert len(records_of_trace(row | {"base_token_ids": [4, 1, 6, 0]}, left)) == 1
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
        base=(4, 5, 7, 0),
    )
    left = Counter[str]()
    last, first = records_of_trace(row, left)
    assert last.places == (
        Place(0, 0.5, (4, 3), (0.0, 0.0), (1.0, 0.5)),
        Place(1, 0.5, (6, 5), (0.0, 0.0), (1.0, 0.0)),
    )
    assert first.places == (Place(1, 0.5, (5, 6), (0.0, 0.0), (0.0, 1.0)),)
    assert left["revisions of responses that are not kept"] == 2


def test_a_trace_without_revisions_says_nothing():
    row = trace_row(revision(0, 4, 9, (1.0, 0.0)), tokens=(4, 0)) | {"revisions": []}
    assert records_of_trace(row, Counter()) == []
