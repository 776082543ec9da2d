"""What a grader says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """`predicted` is the answer found, None where there is none; `correct` None if unknown."""

    predicted: str | None
    correct: bool | None
