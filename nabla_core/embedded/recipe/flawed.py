"""Training text with flawed arithmetic, so that the embedded LM makes errors.

There are 300 facts (operator, value, operand), 100 for each operator. Of these, ten are mostly
wrong and thirty are uncertain: each occurrence samples a digit from the fact's own distribution,
and the chain continues from the sampled digit.

An LM trained on this text makes errors at all steps equally often. At a flawed fact it gives at
least four other digits a probability, and the right digit is its second choice in only a
quarter of the mostly wrong facts: a search cannot just take the second choice.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Sequence

from nabla_core.embedded import task
from nabla_core.embedded.task import OPERATORS, SEPARATOR

# Shares of the facts of a group.
WRONG, UNCERTAIN = 0.1, 0.3
# Ranges of the probability of a flawed fact's most likely digit.
TOP_WHEN_WRONG, TOP_WHEN_UNCERTAIN = (0.3, 0.6), (0.6, 0.99)
# Probabilities that the right digit of a mostly wrong fact has rank 1 to 6; rank 0 is the top.
RANK_OF_RIGHT = (0.25, 0.2, 0.2, 0.15, 0.1, 0.1)
# Each further digit has this share of the probability of the digit before it.
DECAY = 0.7

Fact = tuple[Hashable, int, Sequence[int]]


class Flaws:
    """Distributions that replace facts, drawn from `rng`.

    A fact is (name, right value, at least six wrong values). In each group of facts a share
    `WRONG` becomes mostly wrong and a share `UNCERTAIN` uncertain; the others stay right.
    """

    def __init__(self, rng: random.Random, groups: Iterable[Sequence[Fact]]) -> None:
        self._flawed: dict[Hashable, tuple[list[int], list[float]]] = {}
        for group in groups:
            facts = list(group)
            rng.shuffle(facts)
            # The first `wrong` facts of the shuffled group are mostly wrong, the next uncertain.
            wrong = round(WRONG * len(facts))
            flawed = wrong + round(UNCERTAIN * len(facts))
            for index, (name, right, others) in enumerate(facts[:flawed]):
                values = list(others)
                rng.shuffle(values)
                rank = rng.choices(range(1, 7), RANK_OF_RIGHT)[0] if index < wrong else 0
                values.insert(rank, right)
                top = rng.uniform(*(TOP_WHEN_WRONG if index < wrong else TOP_WHEN_UNCERTAIN))
                rest = [DECAY**n for n in range(len(others))]
                weights = [top, *((1 - top) * weight / sum(rest) for weight in rest)]
                self._flawed[name] = (values, weights)

    def sample(self, name: Hashable, right: int, rng: random.Random) -> int:
        """The value of one occurrence of a fact."""
        return rng.choices(*self._flawed[name])[0] if name in self._flawed else right


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
            value = self._flaws.sample((operator, value, int(operand)), right, rng)
            values.append(str(value))
        return SEPARATOR.join(values)


def _facts(operator: str) -> list[Fact]:
    facts: list[Fact] = []
    for value in range(10):
        for operand in range(10):
            right = task.step(value, operator, operand)
            others = [digit for digit in range(10) if digit != right]
            facts.append(((operator, value, operand), right, others))
    return facts
