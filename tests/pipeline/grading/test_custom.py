"""A function of the user's own as the grader."""

import re

import pytest

from nabla_core.types import Prompt
from pipeline.errors import ConfigError
from pipeline.grading.custom import CustomGrader, GradingError
from pipeline.grading.graders import Verify, grader
from pipeline.grading.verdict import Verdict
from pipeline.inputs.prompts import Prompts
from pipeline.run.verify_method import resolve

TASK = '''
"""A task."""
import os
import sys
import time

CONSTANT = 3

def words(prompt, response):
    """Right if the response has every word of the expected answer."""
    assert prompt["messages"][-1]["role"] == "user"
    if prompt["answer"] is None:
        return None
    return all(word in response.split() for word in prompt["answer"].split())

def pair(prompt, response):
    return response.split()[-1], response.endswith(prompt["id"])

def slow(prompt, response):
    time.sleep(60 * (response == "slow"))
    return True

def fails(prompt, response):
    return 1 / len(response)

def leaves(prompt, response):
    sys.exit("done") if response == "a" else os._exit(1)
'''

ASKED = Prompt.of("Use these words: sun, moon.", id="p", answer="sun moon")


@pytest.fixture(autouse=True)
def _task(tmp_path, monkeypatch):
    (tmp_path / "my_task.py").write_text(TASK)
    (tmp_path / "broken.py").write_text("import nowhere_at_all\n")
    (tmp_path / "exits.py").write_text("import os\n\nos._exit(3)\n")
    monkeypatch.chdir(tmp_path)


def graded(name, responses, *, prompt=ASKED):
    grade = grader(Verify(method="custom", function=f"my_task:{name}", seconds=60))
    try:
        return [grade(prompt, response) for response in responses]
    finally:
        grade.close()


def test_a_function_of_the_working_directory_grades_with_and_without_an_expected_answer():
    assert graded("words", ["moon and sun", "sunmoon"]) == [
        Verdict(None, True),
        Verdict(None, False),
    ]
    assert graded("words", ["sun"], prompt=Prompt.of("?", id="p")) == [Verdict(None, None)]


def test_a_function_may_return_the_answer_that_it_found():
    assert graded("pair", ["it is p", "it is q"]) == [Verdict("p", True), Verdict("q", False)]


def test_a_response_that_takes_too_long_is_wrong_and_the_next_is_graded():
    grade = CustomGrader("my_task:slow", 60)
    assert grade(ASKED, "quick").correct is True
    grade._seconds = 0.5
    assert grade(ASKED, "slow") == Verdict(None, False)
    grade._seconds = 60
    assert grade(ASKED, "quick").correct is True
    grade.close()


def test_an_exception_names_function_prompt_and_line():
    line = TASK.splitlines().index("    return 1 / len(response)") + 1
    expected = (
        r"verify\.function=my_task:fails: prompt 'p': ZeroDivisionError: .*"
        rf"my_task\.py, line {line}\)"
    )
    with pytest.raises(GradingError, match=expected):
        graded("fails", [""])


def test_what_is_no_verdict_is_refused():
    with pytest.raises(GradingError, match=r"it must return True, False or None.*got 0\.25"):
        graded("fails", ["four"])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("missing:grade", "verify.function=missing:grade: ModuleNotFoundError: No module named"),
        ("my_task:missing", "AttributeError: module 'my_task' has no attribute 'missing'"),
        ("my_task:CONSTANT", "CONSTANT is no function, but of type int"),
        ("broken:grade", "No module named 'nowhere_at_all' ("),
        ("exits:grade", "its module ended the process that imported it"),
    ],
)
def test_a_function_that_is_not_found_is_refused_before_a_run_begins(tmp_path, function, message):
    verify = Verify(method="custom", function=function)
    with pytest.raises(ConfigError, match=re.escape(message)):
        resolve(verify, str(tmp_path / "run"), Prompts())


def test_a_response_that_kills_the_process_is_wrong_and_an_exit_is_an_error():
    assert graded("leaves", ["b"]) == [Verdict(None, False)]
    with pytest.raises(GradingError, match="SystemExit: done"):
        graded("leaves", ["a"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "custom"}, "verify.method=custom needs verify.function=module:name"),
        ({"method": "math", "function": "a:b"}, "verify.function needs verify.method=custom"),
        ({"method": "custom", "function": "a.b"}, "must be module:name, such as my_task:grade"),
        ({"method": "custom", "function": "a:b;c"}, "must be module:name"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Verify(**settings)


def test_the_child_process_is_shared_by_calls():
    grade = CustomGrader("my_task:words", 60)
    grade(ASKED, "a")
    (process, _) = grade._child
    grade(ASKED, "b")
    assert grade._child[0] is process
    grade.close()
    assert process.poll() is not None
