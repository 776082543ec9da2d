"""Labels of steps."""

from __future__ import annotations

import pytest

from nabla_core import Prompt
from pipeline.errors import ConfigError
from pipeline.grading.custom import GradingError
from pipeline.grading.graders import Verify
from pipeline.grading.steps import CustomStepGrader, StepVerdict, check_steps, step_grader
from pipeline.train_judge.config import Goal

# 7+8=5, 5*3=5, 5-4=1, 1+1=2, 2-2=0, 0*6=0, 0+5=5, 5-9=6.
PROMPT = Prompt.of("7+8*3-4+1-2*6+5-9", id="p")


def test_steps_end_behind_their_values_and_are_right_until_the_first_error():
    grade = step_grader(Verify("embedded"))
    gold = grade(PROMPT, "5;5;1;2;0;0;5;6")
    assert gold.right
    assert [s.end for s in gold.steps] == [1, 3, 5, 7, 9, 11, 13, 15]
    # The third value is wrong; the right values behind it are no right steps.
    off = grade(PROMPT, "5;5;2;2;0;0;5;6")
    assert [s.right for s in off.steps] == [True, True, *[False] * 6]
    assert not off.right
    # Right so far, and unfinished; one too many.
    assert grade(PROMPT, "5;5").steps == (StepVerdict(1, True), StepVerdict(3, True))
    assert not grade(PROMPT, "5;5").right
    assert not grade(PROMPT, "5;5;1;2;0;0;5;6;7").right
    assert not grade(PROMPT, "").right


def test_a_task_without_steps_is_refused():
    with pytest.raises(ConfigError, match=r"verify\.method=math cannot tell which step"):
        step_grader(Verify("math"))


TASK = '''
def steps(prompt, response):
    """Each word is a step, and right as long as the expected answer goes on with it."""
    gold, words, found, end, right = prompt["answer"].split(), response.split(), [], 0, True
    for number, word in enumerate(words):
        end = response.index(word, end) + len(word)
        right = right and gold[number:number + 1] == [word]
        found.append((end, right))
    return found, len(words) == len(gold)

def fails(prompt, response):
    return [(5, True), (3, True)], True
'''


@pytest.fixture
def _task(tmp_path, monkeypatch):
    (tmp_path / "my_steps.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_task")
def test_a_function_of_the_users_own_labels_steps():
    prompt = Prompt.of("Count.", id="p", answer="one two three")
    grade = step_grader(Verify("last_number", seconds=60), "my_steps:steps")
    assert grade(prompt, "one two three").right
    off = grade(prompt, "one too three")
    assert off.steps == (StepVerdict(3, True), StepVerdict(7, False), StepVerdict(13, False))
    assert off.complete
    assert not off.right
    assert not grade(prompt, "one two").right
    grade.close()


@pytest.mark.usefixtures("_task")
def test_steps_of_no_form_or_order_and_functions_that_are_not_found_are_refused():
    grade = CustomStepGrader("my_steps:fails", 60)
    with pytest.raises(GradingError, match=r"goal\.step_function=my_steps:fails: prompt 'p': .*5"):
        grade(PROMPT, "1")
    grade.close()
    with pytest.raises(ConfigError, match=r"goal\.step_function=my_steps:none: AttributeError"):
        check_steps(Verify("last_number"), "my_steps:none")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"step_function": "a:b"}, "goal.step_function needs goal.answers=steps"),
        ({"step_function": "a.b", "answers": "steps"}, "must be module:name"),
    ],
)
def test_settings_of_steps_that_contradict_each_other_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Goal(**given)
