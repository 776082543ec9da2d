"""Responses and the verdicts on them."""

import pytest

from nabla_core.types import Prompt
from pipeline.grading.graders import Verify, grader
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
