"""Answers with relations."""

import pytest

from pipeline.grading.relations import Chain, interval


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x > 2", r"(2,\infty)"),
        (r"x \le 2", r"(-\infty,2]"),
        ("2 < x", r"(2,\infty)"),
        (r"-2 \le x < 7", "[-2,7)"),
        (r"7 > x \ge -2", "[-2,7)"),
        ("1 < x > 2", None),
        ("2x > 2", None),
        ("x = 2", None),
        ("x", None),
    ],
)
def test_inequalities_of_one_variable_are_intervals(text, found):
    assert interval(Chain.of(text)) == found
