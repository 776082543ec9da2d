"""The unit in which yields are shown: their digits are not all 0."""

import pytest

from pipeline.tables.flop_unit import flop_unit


@pytest.mark.parametrize(
    ("given", "unit", "factor"),
    [
        ([10.41, 0.002], "GFLOP", 1.0),
        ([0.1], "GFLOP", 1.0),
        ([0.0999, None, 0.0], "TFLOP", 1e3),
        ([1e-6], "PFLOP", 1e6),
        ([1e-30], "EFLOP", 1e9),
        ([0.0, None], "GFLOP", 1.0),
        ([], "GFLOP", 1.0),
    ],
)
def test_the_largest_yield_is_at_least_a_tenth(given, unit, factor):
    assert flop_unit(given) == (unit, factor)
