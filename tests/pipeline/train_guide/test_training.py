"""Optimiser steps: precision, and gradients that are not finite."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import RunError
from pipeline.train_guide.evaluation import measure
from pipeline.train_guide.training import step_examples, train_step
from tests.pipeline.train_guide.exploration import training_state


def test_a_gradient_guide_learns_in_bfloat16_too(plain, explored):
    losses = {}
    for dtype in ("float32", "bfloat16"):
        learning = training_state(plain, explored, "kind=gradient", f"optimise.dtype={dtype}")
        losses[dtype] = [train_step(learning) for _ in range(3)]
        assert learning.trainee.model.dtype == torch.float32
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bfloat16"] != losses["float32"]
    found = measure(learning)
    assert found["accuracy"] is None
    assert found["selection_score"] == found["reward"]


def test_a_gradient_that_is_not_finite_stops_or_skips_and_names_its_responses(plain, explored):
    learning = training_state(plain, explored, "kind=gradient")
    with torch.no_grad():
        learning.trainee.model.score.weight[0, 0] = float("nan")
    with pytest.raises(RunError, match=r"step 1: .* not finite; responses: q\d+#\d, .*skip"):
        train_step(learning)
    skipping = training_state(plain, explored, "kind=gradient", "optimise.on_nonfinite=skip")
    kept = skipping.trainee.model.score.weight.clone()
    skipping.trainee.model.score.weight.data[0, 0] = float("inf")
    train_step(skipping)
    assert torch.equal(skipping.trainee.model.score.weight[0, 1:], kept[0, 1:])
    assert len(skipping.skipped) == 1
    assert "q" in skipping.skipped[0]


def test_micro_batches_change_no_step(plain, explored):
    whole = training_state(plain, explored, "kind=gradient")
    parts = training_state(plain, explored, "kind=gradient", "optimise.micro_batch=2")
    for _ in range(2):
        assert train_step(parts) == pytest.approx(train_step(whole), rel=1e-4)
    for a, b in zip(
        whole.trainee.model.parameters(), parts.trainee.model.parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_every_epoch_has_every_example_once(plain, explored):
    state = training_state(plain, explored, "optimise.batch=5")
    count = len(state.train)
    drawn = []
    while len(drawn) < 2 * count:
        state.step += 1
        drawn += [example.name for example in step_examples(state)]
    names = sorted(example.name for example in state.train)
    first, second = drawn[:count], drawn[count : 2 * count]
    assert sorted(first) == sorted(second) == names
    assert first != second
