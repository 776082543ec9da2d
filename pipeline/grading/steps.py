"""Labels of the steps of a response, for tasks that can tell them.

A grader of steps takes a prompt and a response and says where each step ends in the text, and
whether this step and all before it are right. Add one to `STEP_GRADERS`, by the `verify.method` of
its task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nabla_core.embedded import task
from nabla_core.types import Prompt
from pipeline.errors import ConfigError
from pipeline.grading.graders import Verify


@dataclass(frozen=True, slots=True)
class StepVerdict:
    """A step of a response ends in front of the character `end`; `right`: it and all before it are
    right."""

    end: int
    right: bool


@dataclass(frozen=True, slots=True)
class StepVerdicts:
    """The steps of a response in order. `complete`: they are all steps of a right response, and
    nothing comes behind them."""

    steps: tuple[StepVerdict, ...]
    complete: bool

    @property
    def right(self) -> bool:
        """Whether every step is right, and none is missing."""
        return self.complete and all(step.right for step in self.steps)


StepGrader = Callable[[Prompt, str], StepVerdicts]


def step_grader(settings: Verify, key: str = "validation.verify.method") -> StepGrader:
    """The grader of steps of a method. Raises ConfigError where its task has none."""
    found = STEP_GRADERS.get(settings.method)
    if found is None:
        raise ConfigError(
            f"answers=steps: {key}={settings.method} cannot tell which step of a response is "
            f"right; {', '.join(STEP_GRADERS)} can. Train with answers=final"
        )
    return found


def _embedded(prompt: Prompt, response: str) -> StepVerdicts:
    gold = task.solve(prompt.text).split(task.SEPARATOR)
    values = response.split(task.SEPARATOR)
    steps: list[StepVerdict] = []
    end, right = 0, True
    for value, expected in zip(values, gold, strict=False):
        right = right and value == expected
        end += len(value)
        steps.append(StepVerdict(end, right))
        end += len(task.SEPARATOR)
    return StepVerdicts(tuple(steps), len(values) == len(gold))


STEP_GRADERS: Mapping[str, StepGrader] = {"embedded": _embedded}
