"""The answer that a response ends in."""

from __future__ import annotations

from fractions import Fraction

import pytest

from nabla_core.methods.answers import last_answer, last_number, number, same_answer


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
        (r"guess: 4 ... \boxed{1", None),
        (r"\boxed{3} wait, \boxed{4", "3"),
        (r"\boxed{3}, \boxed{5} and $\boxed{7}$", "3, 5, 7"),
        (r"\boxed{x = \boxed{4}}", "4"),
        (r"\boxed{\left\{1, 2\right.}", r"\left\{1, 2\right."),
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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("is .5", ".5"),
        ("is \u22125", "-5"),
        ("is 1e3", "1e3"),
        (r"is 3 \times 10^{5}", "3e5"),
        ("is 3/4.", "3/4"),
        (r"is -\dfrac{3}{4}", "-3/4"),
        (r"is \frac34", "3/4"),
        ("is 1 3/4", "1 3/4"),
        (r"is 1\frac{3}{4}", "1 3/4"),
        ("on 5/6/2020", "2020"),
        ("is 3/0", "0"),
        ("values 1,2", "2"),
        ("is 1,00,000", "100000"),
        (r"is 10{,}080", "10080"),
        (r"is 10,\!080", "10080"),
        ("owes -$5", "-5"),
        ("1.", "1"),
        ("9007199254740993", "9007199254740993"),
    ],
)
def test_last_numbers(text: str, found: str):
    assert last_number(text) == found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5.0", 5),
        ("-1 3/4", Fraction(-7, 4)),
        ("1,234.5", Fraction("1234.5")),
        ("1e-3", Fraction(1, 1000)),
        ("9007199254740993", 9007199254740993),
        ("-0", 0),
        ("1, 2", None),
        ("1,2", None),
        ("5/6/2020", None),
        ("3/0", None),
        ("x = 5", None),
        ("", None),
    ],
)
def test_numbers_have_exact_values(text: str, value: int | Fraction | None):
    assert number(text) == value


def test_numbers_of_any_size_are_compared_by_their_digits():
    assert number("1e999999999") == number("10.0e999999998") != number("1e999999998")
    assert number("7" * 100_000) == number("0" + "7" * 100_000 + ".0") != number("7" * 99_999)
    assert number("1e400") != number("1e401")


@pytest.mark.parametrize(
    ("first", "second", "are_same"),
    [
        ("5", "5.0", True),
        (r"\frac{1}{2}", "0.5", True),
        ("1,000", "1e3", True),
        (r"\dfrac{x}{2}", r"$\frac{x}{2}$", True),
        ("(1, 2)", r"\left(1,2\right)", True),
        ("5", "6", False),
        ("x", "y", False),
        ("9007199254740993", "9007199254740992", False),
    ],
)
def test_same_answers(first: str, second: str, are_same: bool):
    assert same_answer(first, second) is are_same
