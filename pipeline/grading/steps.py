"""Labels of the steps of a response, for tasks that can tell them.

A grader of steps takes a prompt and a response and says where each step ends in the text, and
whether this step and all before it are right. Tasks of this package are in `STEP_GRADERS`, by their
`verify.method`; a user's own function is named by `goal.step_function`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nabla_core.embedded import task
from nabla_core.types import Prompt
from pipeline.errors import ConfigError
from pipeline.grading.custom import CustomFunction, serve_function
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


class CustomStepGrader(CustomFunction):
    """Labels by `function`, a `module:name` of the user's own, in a child process. A response that
    takes longer than `seconds`, or that kills the process, has no step, and is not right."""

    def __init__(self, function: str, seconds: float) -> None:
        super().__init__(__name__, function, seconds, "goal.step_function")

    def __call__(self, prompt: Prompt, response: str) -> StepVerdicts:
        """Raises ConfigError where there is no such function, and GradingError where it fails."""
        reply = self.call(prompt, response)
        return reply if isinstance(reply, StepVerdicts) else StepVerdicts((), False)


def main() -> None:
    """The main function of the child process of `CustomStepGrader`."""
    serve_function(_verdicts)


def _verdicts(found: Any) -> StepVerdicts:
    match found:
        case ([*steps], bool(complete)) if all(map(_is_step, steps)):
            ends = [end for end, _ in steps]
            if ends == sorted(ends):
                return StepVerdicts(tuple(StepVerdict(*step) for step in steps), complete)
    raise TypeError(
        "it must return a pair: the steps in order, a list of pairs of the character behind a step "
        "and whether it and all before it are right; and whether these are all steps of a right "
        f"response; got {found!r:.200}"
    )


def _is_step(step: Any) -> bool:
    match step:
        case (int(end), bool()):
            return end >= 0
    return False


def step_grader(settings: Verify, function: str | None = None) -> StepGrader:
    """The grader of steps of a method, or by the user's `function` (a `module:name`). Raises
    ConfigError where its task has none."""
    if function is not None:
        return CustomStepGrader(function, settings.seconds)
    found = STEP_GRADERS.get(settings.method)
    if found is None:
        raise ConfigError(
            f"answers=steps: validation.verify.method={settings.method} cannot tell which step of "
            f"a response is right; {', '.join(STEP_GRADERS)} can. Name a function that tells it in "
            "goal.step_function, or train with answers=final"
        )
    return found


def check_steps(settings: Verify, function: str | None) -> None:
    """Raises ConfigError where `step_grader` would fail, or this machine cannot import the
    function."""
    grade = step_grader(settings, function)
    if isinstance(grade, CustomStepGrader):
        try:
            grade.check()
        finally:
            grade.close()


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
