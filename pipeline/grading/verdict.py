"""The result of grading one response."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer that a response gives, and whether it is correct.

    `predicted` is None if the response gives no answer; `correct` is None if it was not graded.
    """

    predicted: str | None
    correct: bool | None
