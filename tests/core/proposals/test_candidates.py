"""Hard sequences and plans of left-to-right proposals, on tensors made by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nabla_core.config import NablaConfig, Select
from nabla_core.guides.base import Gradients
from nabla_core.models.forward import Likelihood
from nabla_core.models.readers import LMRead
from nabla_core.proposals.candidates import hard_sequence, plan_of
from nabla_core.proposals.positions import hidden_at, norms, uncertain
from nabla_core.requests import Context, Response


def gradients(**config: Any) -> Gradients:
    """Five tokens swept from position 1 on; the LM prefers 11, 12, 13, 14 there."""
    likelihood = Likelihood(
        log_probability=torch.zeros(4),
        confidence=torch.tensor([0.5, 0.99, 0.9, 0.2]),
        entropy=torch.tensor([1.0, 0.1, 0.4, 2.0]),
        top=torch.tensor([11, 12, 13, 14]),
        hidden_gradient=None,
    )
    hidden = torch.arange(8.0).reshape(4, 2)
    return Gradients(
        context=Context("x", (1,), ((), ()), ((), ())),
        response=Response((0, 1, 2, 3, 4), "length"),
        config=NablaConfig(**config),
        lm=LMRead(1, hidden, likelihood, None),
    )


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


def test_uncertain_positions_pass_both_thresholds():
    assert uncertain(gradients()) == [1, 3, 4]
    assert uncertain(gradients(select=Select(0.9, entropy_threshold=0.5))) == [1, 4]
    assert uncertain(gradients(select=Select(0.2))) == [4]
    assert hidden_at(gradients(), [4, 1]).tolist() == [[6, 7], [0, 1]]


def test_a_plan_is_made_once_and_counts_the_candidates_before_each():
    of = gradients()
    plan = plan_of(of)
    assert [(c.position, c.earlier) for c in plan.candidates] == [(1, 0), (3, 1), (4, 2)]
    assert plan_of(of) is plan


def test_norms_leave_out_banned_tokens_and_may_be_centred():
    rows = torch.tensor([[3.0, 5.0, 100.0]])
    banned = torch.tensor([False, False, True])
    assert norms(rows, banned, Select()).item() == pytest.approx(34**0.5)
    assert norms(rows, banned, Select(norm="centred")).item() == pytest.approx(2**0.5)
