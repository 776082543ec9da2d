"""Slopes of errors, and the method that integrates the flows."""

import math

import pytest
import torch

from pipeline.duality.continuous.flows import slope
from pipeline.duality.continuous.runge_kutta import runge_kutta


def test_the_slope_of_a_power_is_its_exponent():
    sizes = [250, 500, 1000, 2000]
    assert slope(sizes, [3 * n**-0.5 for n in sizes]) == pytest.approx(-0.5)


def test_runge_kutta_has_an_error_of_fourth_order():
    """dx / dt = -x from 1: exp(-1) at t = 1."""
    start = torch.ones(1, dtype=torch.float64)
    errors = [
        abs(float(runge_kutta(lambda x: -x, start, 1 / n, n)) - math.exp(-1)) for n in (10, 20, 40)
    ]
    assert errors[0] < 1e-6
    assert slope([0.1, 0.05, 0.025], errors) == pytest.approx(4, abs=0.1)
    assert float(start) == 1
