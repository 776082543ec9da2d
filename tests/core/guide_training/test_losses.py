"""Each loss term is what its definition says, and the losses of parts add up."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from nabla_core.guide_training.examples import Batch, Example
from nabla_core.guide_training.losses import loss
from nabla_core.guide_training.settings import Target
from tests.core.guide_training.training_data import CPU, FIRST, PRIORS, SECOND


def lost(target: Target, *made: tuple[Example, list[Any]], **counts: int) -> float:
    batch = Batch.of([e for e, _ in made], CPU)
    rows = [predicted + [9.0] * (3 - len(predicted)) for _, places in made for predicted in places]
    counts = {"responses": len(made), "positions": len(rows)} | counts
    values = torch.tensor([row[: batch.tokens.size(1)] for row in rows])
    return loss(values, None, batch, target, **counts).item()


def softmax(values: list[float], temperature: float) -> list[float]:
    exp = [math.exp(v / temperature) for v in values]
    return [e / sum(exp) for e in exp]


def entropy(true: list[float], predicted: list[float], temperature: float) -> float:
    wanted, given = softmax(true, temperature), softmax(predicted, temperature)
    return -sum(w * math.log(g) for w, g in zip(wanted, given, strict=True))


def test_each_term_is_what_its_definition_says():
    only = Target(temperature=0.5, within=0.0, across=0.0, scale=0.0, score=1.0)
    within = [
        entropy([0.0, 2.0], [0.5, 1.0], 0.5),
        entropy([1.0, 0.0, 1.5], [0.0, 0.2, -0.1], 0.5),
    ]
    assert lost(replace(only, within=1.0), FIRST) == pytest.approx(sum(within) / 2)
    # Gains of all pairs of a response, the tokens taken with none.
    true, predicted = [0.0, 2.0, 0.0, -1.0, 0.5], [0.0, 0.5, 0.0, 0.2, -0.1]
    assert lost(replace(only, across=1.0), FIRST) == pytest.approx(entropy(true, predicted, 0.5))
    both = (entropy(true, predicted, 0.5) + entropy([0, -1, 0.5], [0, 0, 3], 0.5)) / 2
    assert lost(replace(only, across=1.0), FIRST, SECOND) == pytest.approx(both)
    # p exp(S / temperature) against p exp(P), p the LM's probabilities.
    mirror = 0.0
    for scores, predicted in (([0.0, 2.0], [0.5, 1.0]), ([1.0, 0.0, 1.5], [0.0, 0.2, -0.1])):
        wanted = [p + s / 0.5 for p, s in zip(PRIORS, scores, strict=False)]
        given = [p + s for p, s in zip(PRIORS, predicted, strict=False)]
        mirror += entropy(wanted, given, 1.0) / 2
    assert lost(replace(only, mirror=1.0), FIRST) == pytest.approx(mirror)
    huber = (1.5 - 0.5 + (1.2 - 0.5 + 0.5 * 0.6**2) / 2) / 2
    assert lost(replace(only, scale=1.0, huber_delta=1.0), FIRST) == pytest.approx(huber)


def test_the_loss_of_parts_adds_up_to_that_of_the_whole():
    target = Target()
    counts = {"responses": 2, "positions": 3}
    parts = lost(target, FIRST, **counts) + lost(target, SECOND, **counts)
    assert parts == pytest.approx(lost(target, FIRST, SECOND), rel=1e-5)


def test_the_score_term_is_the_squared_error_of_the_guides_own_rewards():
    only = Target(within=0.0, across=0.0, scale=0.0, score=2.0)
    batch = Batch.of([FIRST[0], SECOND[0]], CPU)
    rewards = torch.tensor([0.5, -1.0])  # both responses have score 0
    nothing = torch.zeros_like(batch.scores)
    value = loss(nothing, rewards, batch, only, responses=2, positions=3)
    assert value.item() == pytest.approx(2.0 * (0.25 + 1.0) / 2)
    assert loss(nothing, None, batch, only, responses=2, positions=3).item() == 0.0


def test_a_response_without_positions_leaves_loss_and_gradient_finite():
    """A padded row of the softmax over a response has nothing to normalise over."""
    empty = Example("c", "c", tuple(range(8)), 0.0, ())
    batch = Batch.of([FIRST[0], empty], CPU)
    predictions = torch.zeros_like(batch.scores, requires_grad=True)
    value = loss(predictions, None, batch, Target(), responses=2, positions=2)
    torch.autograd.backward(value)
    assert value.isfinite()
    assert predictions.grad is not None
    assert predictions.grad.isfinite().all()
    assert predictions.grad.any()
