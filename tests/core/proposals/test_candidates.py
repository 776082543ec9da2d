"""Hard sequences and plans of left-to-right proposals, on tensors made by hand."""

from __future__ import annotations

import pytest

from nabla_core.proposals.candidates import hard_sequence, plan_of
from tests.core.proposals.by_hand import gradients


@pytest.mark.parametrize(
    ("anchor", "hard", "expected"),
    [
        ("rollout", None, (0, 1, 2, 3, 4)),
        ("rollout", 9, (0, 1, 9, 3, 4)),
        ("argmax", None, (0, 1, 12, 13, 14)),
        ("argmax", 9, (0, 1, 9, 13, 14)),
    ],
)
def test_hard_sequences_by_anchor(anchor: str, hard: int | None, expected: tuple[int, ...]):
    assert hard_sequence(gradients(anchor=anchor), 2, hard) == expected


def test_a_plan_is_made_once_and_counts_the_candidates_before_each():
    of = gradients()
    plan = plan_of(of)
    assert [(c.position, c.earlier) for c in plan.candidates] == [(1, 0), (3, 1), (4, 2)]
    assert plan_of(of) is plan
