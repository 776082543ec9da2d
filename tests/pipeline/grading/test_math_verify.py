"""math-verify in a child process that may be killed."""

import time

from pipeline.grading.graders import Verify, grader
from pipeline.grading.math_verify import MathGrader
from pipeline.grading.verdict import Verdict
from tests.pipeline.grading.prompts import asked


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
