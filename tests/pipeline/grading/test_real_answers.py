"""Every expected answer of four public data sets, and solutions with labels by their graders."""

import re

import pytest

from pipeline.grading.graders import Verify, grader
from tests.pipeline.grading.pairs import PHRASINGS
from tests.pipeline.grading.prompts import asked
from tests.shared_data import rows

FILES = ("math500", "amc23", "aime2024", "gsm8k_test")


@pytest.mark.parametrize("file", FILES)
def test_every_expected_answer_is_its_own(is_right, file):
    answers = {row["answer"] for row in rows(f"{file}.jsonl")}
    failed = [
        (answer, phrasing)
        for answer in answers
        for phrasing in PHRASINGS
        if is_right(answer, phrasing.replace("%s", answer)) is not True
    ]
    assert failed == []


def test_a_number_out_of_an_expected_answer_is_not_the_answer(is_right):
    # But for a unit, and the value of a variable.
    unit = re.compile(r"\\\$|\^\\circ|\\(?:text|mbox)\{.*|^[xy] ?= ?")
    passed = [
        (answer, part)
        for answer in {row["answer"] for row in rows("math500.jsonl")}
        for part in set(re.findall(r"-?\d+(?:\.\d+)?", answer))
        if part != unit.sub("", answer).strip() and is_right(answer, rf"\boxed{{{part}}}")
    ]
    assert passed == []


def test_whole_solutions_as_expected_answers(is_right):
    for row in rows("gsm8k_test.jsonl"):
        assert is_right(row["solution"], f"The answer is {row['answer']}.") is True


@pytest.mark.parametrize("method", ["math", "last_number"])
def test_graded_solutions(method):
    grade = grader(Verify(method=method, seconds=60))
    solutions = rows("gsm8k_graded_solutions.jsonl")
    assert len(solutions) == 1600
    verdicts = [grade(asked(row["answer"]), row["response"]).correct for row in solutions]
    assert verdicts == [row["correct"] for row in solutions]
    if method == "math":
        grade.close()
