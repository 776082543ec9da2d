"""AUC, calibration and best-of-N curves against counts by hand."""

from __future__ import annotations

import random
from itertools import combinations
from math import log

import pytest

from nabla_core.judge_training.evaluation import (
    JudgedAnswer,
    auc,
    auc_within_prompts,
    best_of_n_curve,
    calibration,
    sigmoid,
)


def answers(*pairs, prompt="p"):
    return [JudgedAnswer(prompt, reward, right) for reward, right in pairs]


def drawn(count, seed=0):
    """Rewards with ties."""
    rng = random.Random(seed)
    return answers(*((rng.randrange(6), rng.random() < 0.5) for _ in range(count)))


def test_auc_is_the_share_of_pairs_that_are_in_order():
    found = drawn(30)
    right = [a.reward for a in found if a.right]
    wrong = [a.reward for a in found if not a.right]
    pairs = [(r > w) + (r == w) / 2 for r in right for w in wrong]
    assert auc(found) == pytest.approx(sum(pairs) / len(pairs))
    assert auc(answers((1, True))) is None
    assert auc([]) is None


def test_auc_within_prompts_leaves_differences_between_prompts_out():
    easy = answers((10, True), (9, False), prompt="easy")
    hard = answers((1, True), (0, False), (2, False), prompt="hard")
    none = answers((50, False), prompt="none")
    assert auc_within_prompts([*easy, *hard, *none]) == (1 + 0.5) / 2
    assert auc_within_prompts(none) is None


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_the_curve_is_the_mean_over_all_subsets(n):
    found = drawn(12, seed=n)

    def best(subset):
        top = max(a.reward for a in subset)
        ties = [a.right for a in subset if a.reward == top]
        return sum(ties) / len(ties)

    subsets = list(combinations(found, n))
    expected = sum(map(best, subsets)) / len(subsets)
    assert best_of_n_curve(found, [n]) == {n: pytest.approx(expected)}


def test_the_curve_ends_where_a_prompt_has_too_few_responses():
    found = drawn(8) + answers((1, True), (2, False), prompt="short")
    assert list(best_of_n_curve(found, (1, 2, 4, 8))) == [1, 2]
    assert best_of_n_curve([], (1,)) == {}


def test_calibration_compares_sigmoids_with_shares():
    three_of_four = answers(*((log(3), right) for right in (True, True, True, False)))
    exact = calibration(three_of_four)
    assert exact.ece == pytest.approx(0)
    assert exact.brier == pytest.approx(0.75 * 0.25)
    sure = calibration(answers((800.0, True), (-800.0, True)))
    assert (sure.brier, sure.ece) == (0.5, 0.5)
    assert [(b.count, b.predicted, b.right) for b in sure.bins] == [(1, 0, 1), (1, 1, 1)]
    assert calibration([]) is None
    assert sigmoid(0) == 0.5
