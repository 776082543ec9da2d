import time

import pytest

from nabla_core.types import Prompt
from pipeline.grading.graders import Verify, grader
from pipeline.grading.math_verify import MathGrader
from pipeline.grading.verdict import Verdict


def asked(answer):
    return Prompt.of("1+1*0+0+0+0+0+0+0", id="x", answer=answer)


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


def test_math_answers_are_compared_as_mathematics():
    grade = grader(Verify(method="math", seconds=60))
    assert grade(asked("\\frac{1}{2}"), "so \\boxed{0.5}").correct is True
    assert grade(asked("$x^2$"), "\\boxed{x^3}").correct is False
    assert grade(asked(None), "\\boxed{1}") == Verdict(None, None)
    grade.close()


def test_an_answer_that_takes_for_ever_is_wrong_and_the_next_is_graded():
    grade = MathGrader(60)
    assert grade(asked("2"), "\\boxed{2}").correct is True
    grade._seconds = 1
    started = time.monotonic()
    assert grade(asked("1"), "\\boxed{9^{9^{9^{9}}}}") == Verdict(None, False)
    assert time.monotonic() - started < 5
    grade._seconds = 60
    assert grade(asked("3"), "\\boxed{3}").correct is True
    grade.close()


def test_a_grader_that_died_between_two_answers_is_replaced():
    grade = MathGrader(60)
    assert grade(asked("2"), "\\boxed{2}").correct is True
    process, _ = grade._child
    process.kill()
    process.join()
    assert grade(asked("3"), "\\boxed{3}").correct is True
    grade.close()
