"""Responses and the verdicts on them."""

import re

import pytest

from nabla_core.types import Prompt
from pipeline.errors import InputError
from pipeline.grading.graders import Verify, check_expected, grader
from pipeline.grading.verdict import Verdict
from tests.pipeline.grading.prompts import asked


@pytest.mark.parametrize(
    ("method", "answer", "response", "verdict"),
    [
        ("none", "4", "4", Verdict(None, None)),
        ("exact", "4", " 4\n", Verdict("4", True)),
        ("exact", "4", "four", Verdict("four", False)),
        ("exact", None, "4", Verdict("4", None)),
        ("last_number", "#### 1,234", "so 1234.0 it is", Verdict("1234.0", True)),
        ("last_number", "-3", "7 - 10 = -3.", Verdict("-3", True)),
        ("last_number", "3", "none", Verdict(None, False)),
        ("last_number", "0.5", "so .5", Verdict(".5", True)),
        ("last_number", "-5", "so \u22125", Verdict("-5", True)),
        ("last_number", "1000", "so 1e3", Verdict("1e3", True)),
        ("last_number", "0.75", "so 3/4", Verdict("3/4", True)),
        ("last_number", "4", "so 3/4", Verdict("3/4", False)),
        ("last_number", "4", r"so \frac{3}{4}", Verdict("3/4", False)),
        ("last_number", "9007199254740993", "9007199254740992", Verdict("9007199254740992", False)),
        ("last_number", "2 * 3 = <<2*3=6>>6\n#### 6", "6.0", Verdict("6.0", True)),
        ("last_number", "none", "3", Verdict("3", None)),
        ("last_number", None, "3", Verdict("3", None)),
        ("embedded", "0", "2;0;0;0;0;0;0;0", Verdict("0", True)),
        ("embedded", "0", "2;0;0;0;0;0;0;1", Verdict("1", False)),
        ("embedded", "0", "2;0", Verdict(None, False)),
    ],
)
def test_graders(method, answer, response, verdict):
    assert grader(Verify(method=method))(asked(answer), response) == verdict


def test_the_embedded_grader_has_no_opinion_on_other_prompts():
    other = Prompt.of("What is 2 + 2?", id="x", answer="4")
    assert grader(Verify(method="embedded"))(other, "4") == Verdict(None, None)


def test_the_time_limit_of_math_is_above_zero():
    with pytest.raises(ValueError, match=r"verify\.seconds must be above 0, got 0"):
        Verify(seconds=0)


@pytest.mark.parametrize(
    ("method", "answer", "message"),
    [
        ("exact", " ", "prompt 'x': verify.method=exact: the expected answer '' is empty"),
        ("math", "", "prompt 'x': verify.method=math: the expected answer '' is empty"),
        ("math", r"\frac{1}{", "a bracket is not closed"),
        ("last_number", "none", "the expected answer 'none' holds no number"),
    ],
)
def test_expected_answers_that_cannot_be_graded_against_are_refused_by_prompt(
    method, answer, message
):
    with pytest.raises(InputError, match=re.escape(message)):
        check_expected(asked(answer), Verify(method=method))


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("none", ""),
        ("embedded", ""),
        ("math", None),
        ("math", r"\text{Evelyn}"),
        ("last_number", None),
        ("last_number", "#### 4"),
        ("exact", "x"),
    ],
)
def test_other_expected_answers_are_not_refused(method, answer):
    check_expected(asked(answer), Verify(method=method))
