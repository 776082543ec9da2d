"""Graders: a prompt with its expected answer and a response in, a verdict out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Literal

from nabla_core.config_metadata import NOT_SHAPING
from nabla_core.embedded import task
from nabla_core.methods.answers import last_number, number
from nabla_core.types import Prompt
from pipeline.durations import check_seconds
from pipeline.errors import InputError
from pipeline.grading.comparison import unreadable
from pipeline.grading.custom import CustomGrader
from pipeline.grading.extraction import expected_answer
from pipeline.grading.math_verify import MathGrader
from pipeline.grading.verdict import Verdict

FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
# Methods that read an expected answer in no form of their own, or none.
UNCHECKED = ("auto", "none", "embedded", "custom")


@dataclass(frozen=True)
class Verify:
    """How answers are graded against the expected answer of the input.

    A prompt without an expected answer is not graded. An expected answer that is empty, or that
    the method cannot read, is refused by the id of its prompt before models are loaded.

    Attributes:
        method: `auto`: by what the answers are, said when the run begins and kept in the run
            folder: `last_number` where all are numbers, else `math`; `none` where there are none
            or most are no mathematics; `embedded` for the embedded task. `none`: not graded.
            `embedded`: by the embedded task. `exact`: equal texts, spaces
            around them left out. `last_number`: equal last numbers, as for GSM8K. `math`: equal as
            mathematics, by math-verify in a child process. The expected answer is LaTeX, plain or a
            whole solution; the response gives its own in its last complete box, else at its end.
            All elements of several are asked for, and a rounded decimal is not the exact value.
            `custom`: by `function`, which also grades prompts without an expected answer.
        function: With `custom`, `module:name` of a Python function of a prompt and a response. The
            prompt is a dict with `id`, `messages`, `system` and `answer`. It returns True (right),
            False (wrong) or None (unknown), or with the answer that it found a pair such as
            `("42", True)`. It runs in a child process of each worker. Python finds the module as in
            the working directory of the command. An exception in it fails the prompt.
        seconds (s): The time that `math` and `custom` have for each answer; a response that takes
            longer is not correct.
    """

    method: Literal["auto", "none", "embedded", "exact", "last_number", "math", "custom"] = "auto"
    function: str | None = None
    seconds: float = field(default=5.0, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        check_seconds("verify.seconds", self.seconds)
        if self.function is None:
            if self.method == "custom":
                raise ValueError("verify.method=custom needs verify.function=module:name")
            return
        if self.method != "custom":
            raise ValueError(f"verify.function needs verify.method=custom, not {self.method}")
        if not FUNCTION.fullmatch(self.function):
            raise ValueError(
                f"verify.function must be module:name, such as my_task:grade, got {self.function!r}"
            )


Grader = Callable[[Prompt, str], Verdict]


def check_expected(prompt: Prompt, settings: Verify) -> None:
    """Raise InputError where the expected answer of a prompt cannot be graded against."""
    if prompt.answer is None or settings.method in UNCHECKED:
        return
    reason = None
    if not prompt.answer.strip():
        reason = "is empty; a prompt without an answer has null"
    elif settings.method == "last_number" and last_number(prompt.answer) is None:
        reason = "holds no number"
    elif settings.method == "math":
        reason = unreadable(expected_answer(prompt.answer))
    if reason is not None:
        shown = shorten(prompt.answer, 60)
        raise InputError(
            f"prompt {prompt.id!r}: verify.method={settings.method}: the expected answer "
            f"{shown!r} {reason}"
        )


def grader(settings: Verify) -> Grader:
    """The configured grader. Without an expected answer `correct` is None. Raises ValueError
    where the method is still to be found (`pipeline.run.verify_method`)."""
    match settings.method:
        case "auto":
            raise ValueError("verify.method: auto is no grader before the answers were read")
        case "none":
            return lambda prompt, response: Verdict(None, None)
        case "embedded":
            return _embedded
        case "exact":
            return _exact
        case "last_number":
            return _last_number
        case "math":
            return MathGrader(settings.seconds)
        case "custom":
            assert settings.function is not None  # Verify checks it
            return CustomGrader(settings.function, settings.seconds)


def _embedded(prompt: Prompt, response: str) -> Verdict:
    try:
        grade = task.grade(prompt.text, response)
    except ValueError:  # a prompt of another task
        return Verdict(None, None)
    return Verdict(grade.predicted, grade.answer)


def _exact(prompt: Prompt, response: str) -> Verdict:
    predicted = response.strip()
    expected = prompt.answer
    return Verdict(predicted, None if expected is None else predicted == expected.strip())


def _last_number(prompt: Prompt, response: str) -> Verdict:
    predicted = last_number(response)
    if prompt.answer is None:
        return Verdict(predicted, None)
    expected = last_number(prompt.answer)
    if expected is None:  # the input is at fault, not the response
        return Verdict(predicted, None)
    return Verdict(predicted, predicted is not None and number(predicted) == number(expected))
