"""The answer that a response ends in."""

from __future__ import annotations

import pytest

from nabla_core.methods.answers import last_answer, last_number


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("5;5;1;2;0;0;5;6", "6"),
        ("the total is 1,234.50 euro", "1234.50"),
        ("from -3 to 4.", "4"),
        ("it is -7", "-7"),
        (r"so \boxed{\frac{1}{2}} it is, 3 times", r"\frac{1}{2}"),
        (r"\boxed{1} no, \boxed{ 2 }", "2"),
        (r"\boxed{12", None),
        ("no number", None),
        ("", None),
    ],
)
def test_last_answer(response: str, answer: str | None):
    assert last_answer(response) == answer


def test_last_number_takes_numbers_as_people_write_them():
    assert [last_number(t) for t in ("a 1 b 2.5.", "1,000,000", "x", "3-4")] == [
        "2.5", "1000000", None, "-4",
    ]  # fmt: skip
