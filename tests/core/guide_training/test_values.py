"""The value of a token, from the scores of its tails."""

from __future__ import annotations

import random
from math import exp, log

import pytest

from nabla_core.guide_training.settings import Target
from nabla_core.guide_training.values import soft_value, with_soft_values
from nabla_core.methods.counterfactuals import Place


@pytest.mark.parametrize("beta", [0.25, 1.0, 8.0])
def test_the_soft_value_is_the_log_of_the_mean_exponential(beta: float):
    scores = (0.5, -2.0, 1.25, 0.0)
    literal = beta * log(sum(exp(s / beta) for s in scores) / 4)
    assert soft_value(scores, beta) == pytest.approx(literal, abs=1e-12)
    assert sum(scores) / 4 < soft_value(scores, beta) < max(scores)


def test_its_limits_are_mean_and_largest_score_and_large_scores_do_not_overflow():
    scores = (3.0, -1.0, 2.0)
    assert soft_value(scores, 1e6) == pytest.approx(4 / 3, abs=1e-4)
    assert soft_value(scores, 1e-4) == pytest.approx(3.0, abs=1e-3)
    assert soft_value((1e5, 1e5 - 1), 1e-2) == pytest.approx(1e5, abs=0.1)
    assert soft_value((-2.5,), 0.7) == -2.5


def test_choosing_by_soft_values_is_drawing_from_the_regularised_optimum():
    """On a tree of two tokens: p exp(r / beta), normalised, has the marginal p(a) exp(Q(a) / beta)
    of the first token."""
    p = {"a": 0.7, "b": 0.3}
    tails = {"a": ((0.5, 1.0), (0.5, -1.0)), "b": ((0.25, 2.0), (0.75, 0.0))}
    beta = 0.5
    whole = {first: sum(p[first] * q * exp(r / beta) for q, r in tails[first]) for first in tails}
    draw = random.Random(0)
    drawn = {
        first: [r for _, r in draw.choices(tails[first], [q for q, _ in tails[first]], k=40_000)]
        for first in tails
    }
    found = {first: p[first] * exp(soft_value(drawn[first], beta) / beta) for first in tails}
    expected = whole["a"] / sum(whole.values())
    assert found["a"] / sum(found.values()) == pytest.approx(expected, abs=0.01)
    by_means = {first: p[first] * exp(sum(rs) / len(rs) / beta) for first, rs in drawn.items()}
    assert by_means["a"] / sum(by_means.values()) != pytest.approx(expected, abs=0.05)


def test_a_position_gets_the_soft_value_of_each_token():
    place = Place(2, 0.5, (4, 7), (-1.0, -2.0), (0.5, 1.0), ((0.0, 1.0), (1.0, 1.0)))
    found = with_soft_values(place, Target(value="soft", beta=0.5))
    assert found.scores == pytest.approx((0.5 * log((1 + exp(2)) / 2), 1.0))
    assert (found.tokens, found.tail_scores) == (place.tokens, place.tail_scores)
