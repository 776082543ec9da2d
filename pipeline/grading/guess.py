"""The grading method that fits the expected answers of an input, for `verify.method: auto`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from nabla_core.methods.answers import number
from pipeline.grading.comparison import unreadable
from pipeline.grading.extraction import expected_answer


@dataclass(frozen=True)
class Guess:
    """A grading method, and in half a sentence why it is taken."""

    method: Literal["none", "last_number", "math"]
    reason: str


def guess_method(answers: Iterable[str | None]) -> Guess:
    """`last_number` where all answers are plain numbers or solutions that end in one (`#### 42`),
    else `math`; `none` without answers, or where most of them cannot be read as mathematics.

    Empty answers say nothing: `check_expected` refuses them by the ids of their prompts.
    """
    count = numbers = unread = 0
    for answer in answers:
        if answer is None or not answer.strip():
            continue
        count += 1
        if _is_number(answer):
            numbers += 1
        elif unreadable(expected_answer(answer)) is not None:
            unread += 1
    if not count:
        return Guess("none", "the prompts have no answers, so responses are not graded")
    if numbers == count:
        return Guess("last_number", f"all {count:,} answers are numbers")
    if 2 * unread > count:
        reason = f"{unread:,} of {count:,} answers are no mathematics, so responses are not graded"
        return Guess("none", reason)
    return Guess("math", f"{count - numbers:,} of {count:,} answers are no plain numbers")


def _is_number(answer: str) -> bool:
    # A box or a command of LaTeX: responses will be LaTeX too.
    return "\\" not in answer and number(expected_answer(answer)) is not None
