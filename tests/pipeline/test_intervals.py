import pytest

from pipeline.intervals import interval, normal


def test_mean_and_half_width_of_the_95_percent_interval():
    mean, half = normal([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    # Sample variance 5 / 3, standard error sqrt(5 / 12).
    assert half == pytest.approx(1.96 * (5 / 12) ** 0.5)
    assert interval([1.0, 2.0, 3.0, 4.0]) == pytest.approx((2.5, 2.5 - half, 2.5 + half))


def test_one_value_has_an_interval_without_width():
    assert normal([7.0]) == (7.0, 0.0)
