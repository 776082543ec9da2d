"""One child process of math-verify for all tests that only ask it."""

import pytest

from pipeline.grading.math_verify import MathGrader
from tests.pipeline.grading.prompts import asked


@pytest.fixture(scope="session")
def math_grader():
    grade = MathGrader(60)
    yield grade
    grade.close()


@pytest.fixture
def is_right(math_grader):
    """Whether a response gives the expected answer, by math-verify in its child process."""
    return lambda expected, response: math_grader(asked(expected), response).correct
