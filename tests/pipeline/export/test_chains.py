"""The responses of a search, from its revisions."""

from __future__ import annotations

from pipeline.export.chains import candidates
from tests.pipeline.export.runs import revision, tokens, trace


def test_every_candidate_is_the_response_that_the_judge_read():
    row = trace(
        "p", "135", "123", revisions=[
            revision("123", "124", (0.0, -1.0)),
            revision("123", "133", (0.0, 1.0)),
            revision("133", "134", (1.0, 0.5)),
            revision("133", "135", (1.0, 2.0)),
        ],
    )  # fmt: skip
    found = list(candidates(row))
    assert [c.tokens for c in found] == [tokens(t) for t in ("124", "133", "134", "135")]
    assert [(c.reward, c.accepted) for c in found] == [
        (-1.0, False),
        (1.0, True),
        (0.5, False),
        (2.0, True),
    ]


def test_a_batch_that_takes_the_best_has_proposals_behind_it_for_the_response_before():
    row = trace(
        "p", "133", "123", revisions=[
            revision("123", "133", (0.0, 2.0)),
            revision("123", "124", (0.0, 1.0), accepted=False),
        ],
    )  # fmt: skip
    assert [c.tokens for c in candidates(row)] == [tokens("133"), tokens("124")]


def test_candidates_that_were_not_kept_or_not_readable_are_left_out():
    unread = revision("123", "124", (0.0, -1.0), reward_after=None)
    row = trace("p", "133", "123", revisions=[unread, revision("123", "133", (0.0, 2.0))])
    assert [c.tokens for c in candidates(row)] == [tokens("133")]
    for kept in row["revisions"]:
        kept["tail_token_ids"] = None
    assert list(candidates(row)) == []
    assert list(candidates(trace("p"))) == []
