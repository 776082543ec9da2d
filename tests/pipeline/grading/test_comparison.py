"""Answers compared as mathematics: pairs made by hand, and why each rule around math-verify is."""

import pytest

from pipeline.grading.comparison import same, unreadable
from tests.pipeline.grading.pairs import RIGHT, WRONG


def test_there_are_more_than_a_hundred_pairs_and_no_pair_twice():
    assert len({*RIGHT, *WRONG}) == len(RIGHT) + len(WRONG) > 100


@pytest.mark.parametrize(("expected", "response"), RIGHT)
def test_right_answers(is_right, expected, response):
    assert is_right(expected, response) is True


@pytest.mark.parametrize(("expected", "response"), WRONG)
def test_wrong_answers(is_right, expected, response):
    assert is_right(expected, response) is False


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        # math-verify takes the 3 of the first for the whole of it.
        (r"3\sqrt{13}", "3"),
        # It rounds decimals to six places,
        (".0000672", ".0000673"),
        # takes powers below 1e-15 for 0,
        ("10^{-20}", "10^{-21}"),
        # takes 9 % and 9 for one, and so .09 % and .09,
        ("0.09", r"0.09\%"),
        # and reads the last letters of 3c and 5 cm for units.
        ("3c", "3"),
        ("5 cm", "5 m"),
    ],
)
def test_what_math_verify_alone_takes_for_equal(math_grader, expected, given):
    assert not math_grader.same(expected, given)


@pytest.mark.parametrize("text", [r"\frac{1}{", "(1,2", "[", "x" * 3000, ")" * 40])
def test_what_cannot_be_read_is_equal_to_itself_alone(text):
    assert same(text, text)
    assert not same(text, "1")
    assert not same("1", text)


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        ("4", None),
        (r"\text{Evelyn}", None),
        ("9" * 5000, None),
        (" ", "is empty"),
        (r"\frac{1}{", "cannot be read: a bracket is not closed"),
        (r"\frac{1}", "cannot be read: an argument is missing"),
        ("1)", "cannot be read: a bracket is not opened"),
        ("x" * 3000, "is longer than 2000 characters"),
        ("\\sqrt{" * 40 + "2" + "}" * 40, "cannot be read: nested too deeply"),
    ],
)
def test_expected_answers_that_cannot_be_read(expected, reason):
    assert unreadable(expected) == reason
