"""The tasks that benches compare methods on: prompts by split, and graders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nabla_core import Prompt
from nabla_core.embedded import task as digits
from nabla_core.embedded.task import Grade, Split
from tests.bench.stories import task as stories


@dataclass(frozen=True)
class Task:
    """`grade(prompt_text, response_text)` grades a response. Splits are disjoint. `max_tokens` is a
    little more than a right response needs."""

    _prompts: Callable[..., list[Prompt]]
    grade: Callable[[str, str], Grade]
    max_tokens: int

    def prompts(self, count: int, split: Split) -> list[Prompt]:
        """The first `count` of a split."""
        return self._prompts(count, seed=0, split=split)


TASKS = {
    "digits": Task(digits.prompts, digits.grade, 20),
    "stories": Task(stories.prompts, stories.grade, 26),
}
