"""Intervals and tests of paired comparisons."""

from math import comb

import numpy as np
import pytest

from pipeline.compare.config import Bootstrap
from pipeline.compare.statistics import differences, holm, mean

SETTINGS = Bootstrap(resamples=2000)


def test_the_interval_of_a_share_is_that_of_its_binomial():
    values = [1.0] * 300 + [0.0] * 100
    found = mean(values, SETTINGS)
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert found.mean == 0.75
    assert found.low == pytest.approx(0.75 - half, abs=0.006)
    assert found.high == pytest.approx(0.75 + half, abs=0.006)
    assert mean(values, SETTINGS) == found  # the draws are seeded


def test_equal_values_have_an_interval_of_no_width():
    assert mean([2.0, 2.0, 2.0], SETTINGS) == (2.0, 2.0, 2.0)
    assert mean([2.0], SETTINGS) == (2.0, 2.0, 2.0)


def test_grades_are_compared_by_the_exact_test_of_discordant_pairs():
    base = [0.0] * 12 + [1.0] * 8
    other = [1.0] * 9 + [0.0] * 3 + [1.0] * 6 + [0.0] * 2  # 9 won, 2 lost
    found = differences(base, {"other": other}, SETTINGS)["other"]
    exact = min(1.0, 2 * sum(comb(11, k) for k in range(3)) / 2**11)
    assert (found.test, found.won, found.lost) == ("mcnemar", 9, 2)
    assert found.p == pytest.approx(exact)
    assert found.difference.mean == pytest.approx(7 / 20)


def test_the_difference_is_paired():
    """The values spread widely over prompts, and every prompt gains the same."""
    base = np.random.default_rng(0).normal(0, 10, 200)
    found = differences(base.tolist(), {"other": (base + 0.5).tolist()}, SETTINGS)["other"]
    assert found.difference.low == pytest.approx(0.5)
    assert found.difference.high == pytest.approx(0.5)
    assert found.test == "sign-flip"
    assert found.p < 0.01


def test_no_difference_is_none():
    found = differences([0.0, 1.0], {"same": [0.0, 1.0]}, SETTINGS)["same"]
    assert (found.p, found.adjusted, found.won, found.lost) == (1.0, 1.0, 0, 0)


def test_a_single_prompt_that_changed_is_no_evidence():
    found = differences([0.25, 0.5, 1.0], {"other": [0.5, 0.5, 1.0]}, SETTINGS)["other"]
    assert (found.test, found.won, found.lost, found.p) == ("sign-flip", 1, 0, 1.0)


def test_holms_method_on_an_example_by_hand():
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    adjusted = {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06}
    assert holm(p) == pytest.approx(adjusted)
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}
