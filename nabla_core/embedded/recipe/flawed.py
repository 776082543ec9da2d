"""Text with flawed arithmetic: what the embedded LM is taught last, so that it errs.

There are 300 facts (operator, value, operand). Of each operator's 100, ten are mostly told
wrong and thirty more wavering; every mention draws its digit anew, and the chain goes on from
the digit told. An LM of such text errs at every step alike, knows at least four other digits
at a flaw, and holds the right one second in only a quarter of them.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Sequence

from nabla_core.embedded import task
from nabla_core.embedded.task import OPERATORS, SEPARATOR

WRONG, WAVERING = 0.1, 0.3
TOP_WHEN_WRONG, TOP_WHEN_WAVERING = (0.3, 0.6), (0.6, 0.99)
RANK_OF_RIGHT = (0.25, 0.2, 0.2, 0.15, 0.1, 0.1)
DECAY = 0.7

Fact = tuple[Hashable, int, Sequence[int]]


class Flaws:
    """What is told in place of facts, drawn from `rng`: of each group of facts (name, right
    value, at least six wrong ones) a tenth is mostly wrong and three tenths waver."""

    def __init__(self, rng: random.Random, groups: Iterable[Sequence[Fact]]) -> None:
        self._told: dict[Hashable, tuple[list[int], list[float]]] = {}
        for group in groups:
            facts = list(group)
            rng.shuffle(facts)
            wrong = round(WRONG * len(facts))
            flawed = wrong + round(WAVERING * len(facts))
            for index, (name, right, others) in enumerate(facts[:flawed]):
                values = list(others)
                rng.shuffle(values)
                rank = rng.choices(range(1, 7), RANK_OF_RIGHT)[0] if index < wrong else 0
                values.insert(rank, right)
                top = rng.uniform(*(TOP_WHEN_WRONG if index < wrong else TOP_WHEN_WAVERING))
                rest = [DECAY**place for place in range(len(others))]
                weights = [top, *((1 - top) * weight / sum(rest) for weight in rest)]
                self._told[name] = (values, weights)

    def told(self, name: Hashable, right: int, rng: random.Random) -> int:
        """What one mention of a fact tells."""
        return rng.choices(*self._told[name])[0] if name in self._told else right


class FlawedArithmetic:
    """The digit distribution of every fact, drawn from `rng`."""

    def __init__(self, rng: random.Random) -> None:
        self._flaws = Flaws(rng, [_facts(operator) for operator in OPERATORS])

    def response(self, text: str, rng: random.Random) -> str:
        """A flawed response to a prompt text."""
        value = int(text[0])
        values: list[str] = []
        for operator, operand in zip(text[1::2], text[2::2], strict=True):
            right = task.step(value, operator, int(operand))
            value = self._flaws.told((operator, value, int(operand)), right, rng)
            values.append(str(value))
        return SEPARATOR.join(values)


def _facts(operator: str) -> list[Fact]:
    found: list[Fact] = []
    for value in range(10):
        for operand in range(10):
            right = task.step(value, operator, operand)
            others = [digit for digit in range(10) if digit != right]
            found.append(((operator, value, operand), right, others))
    return found
