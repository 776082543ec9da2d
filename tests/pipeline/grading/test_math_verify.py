"""math-verify in a child process that may be killed."""

import threading
import time

import pytest

from pipeline.grading.graders import Verify, grader
from pipeline.grading.math_verify import MathGrader
from pipeline.grading.verdict import Verdict
from tests.pipeline.grading.hostile import HOSTILE, peak_megabytes
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
    process.wait()
    assert grade(asked("3"), "\\boxed{3}").correct is True
    grade.close()


def test_hostile_answers_are_wrong_in_time_and_in_200_megabytes():
    grade = MathGrader(60)
    assert grade(asked(r"\sqrt{2}"), r"\boxed{\sqrt{2}}").correct is True
    grade._seconds = 1
    peaks = {}
    for name, response in HOSTILE.items():
        assert not grade(asked(r"3\sqrt{13}"), response).correct, name
        # A child process that was killed had its limit of memory; see the next test.
        if grade._child is not None:
            peaks[name] = peak_megabytes(grade._child[0].pid)
    assert max(peaks.values()) < 200
    grade.close()


def test_an_answer_may_not_allocate_more_than_its_limit(math_grader):
    assert math_grader.same("x", "y") is False
    with open(f"/proc/{math_grader._child[0].pid}/limits", encoding="ascii") as limits:
        (limit,) = (int(line.split()[3]) for line in limits if line.startswith("Max address space"))
    # All of the address space, which holds more than what is in memory.
    assert limit < 200_000_000


def test_threads_may_share_a_grader(math_grader):
    found = {}

    def ask(n):
        found[n] = math_grader(asked(f"{n}"), rf"\boxed{{{n}}}")

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: Verdict(str(n), True) for n in range(8)}


@pytest.mark.parametrize("answer", ["", "  "])
def test_an_empty_expected_answer_is_not_graded(math_grader, answer):
    assert math_grader(asked(answer), r"\boxed{4}") == Verdict("4", None)
