"""Uncertain positions and norms of gradient rows, on tensors made by hand."""

from __future__ import annotations

import pytest
import torch

from nabla_core.config import Select
from nabla_core.proposals.positions import hidden_at, norms, uncertain_positions
from tests.core.proposals.by_hand import gradients


def test_uncertain_positions_pass_both_thresholds():
    assert uncertain_positions(gradients()) == [1, 3, 4]
    assert uncertain_positions(gradients(select=Select(0.9, entropy_threshold=0.5))) == [1, 4]
    assert uncertain_positions(gradients(select=Select(0.2))) == [4]
    assert hidden_at(gradients(), [4, 1]).tolist() == [[6, 7], [0, 1]]


def test_norms_leave_out_banned_tokens_and_may_be_centred():
    rows = torch.tensor([[3.0, 5.0, 100.0]])
    banned = torch.tensor([False, False, True])
    assert norms(rows, banned, Select()).item() == pytest.approx(34**0.5)
    assert norms(rows, banned, Select(norm="centred")).item() == pytest.approx(2**0.5)
