"""Text with flawed arithmetic: what the embedded LM is taught last, so that it errs.

There are 300 facts (operator, value, operand). Of each operator's 100, ten are mostly told
wrong and thirty more wavering; every mention draws its digit anew, and the chain goes on from
the digit told. An LM of such text errs at every step alike, knows at least four other digits
at a flaw, and holds the right one second in only a quarter of them.
"""

from __future__ import annotations

import random

from nabla_core.embedded import task
from nabla_core.embedded.task import OPERATORS, SEPARATOR

WRONG, WAVERING = 10, 30
TOP_WHEN_WRONG, TOP_WHEN_WAVERING = (0.3, 0.6), (0.6, 0.99)
RANK_OF_RIGHT = (0.25, 0.2, 0.2, 0.15, 0.1, 0.1)
DECAY = 0.7


class FlawedArithmetic:
    """The digit distribution of every fact, drawn from `rng`."""

    def __init__(self, rng: random.Random) -> None:
        self._told: dict[tuple[str, int, int], tuple[list[int], list[float]]] = {}
        for operator in OPERATORS:
            facts = [(value, operand) for value in range(10) for operand in range(10)]
            rng.shuffle(facts)
            for index, (value, operand) in enumerate(facts[: WRONG + WAVERING]):
                right = task.step(value, operator, operand)
                digits = [digit for digit in range(10) if digit != right]
                rng.shuffle(digits)
                wrong = index < WRONG
                rank = rng.choices(range(1, 7), RANK_OF_RIGHT)[0] if wrong else 0
                digits.insert(rank, right)
                top = rng.uniform(*(TOP_WHEN_WRONG if wrong else TOP_WHEN_WAVERING))
                rest = [DECAY**place for place in range(9)]
                weights = [top, *((1 - top) * weight / sum(rest) for weight in rest)]
                self._told[operator, value, operand] = (digits, weights)

    def response(self, text: str, rng: random.Random) -> str:
        """A flawed response to a prompt text."""
        value = int(text[0])
        values: list[str] = []
        for operator, operand in zip(text[1::2], text[2::2], strict=True):
            fact = operator, value, int(operand)
            if fact in self._told:
                value = rng.choices(*self._told[fact])[0]
            else:
                value = task.step(value, operator, int(operand))
            values.append(str(value))
        return SEPARATOR.join(values)
