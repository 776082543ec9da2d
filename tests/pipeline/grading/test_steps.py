"""Labels of steps."""

from __future__ import annotations

import pytest

from nabla_core import Prompt
from pipeline.errors import ConfigError
from pipeline.grading.graders import Verify
from pipeline.grading.steps import StepVerdict, step_grader

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
