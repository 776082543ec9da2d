"""Answers with =, <, <=, "in": values of variables, equations, inequalities and intervals."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.grading import latex, symbols

_RELATION = r"\\(?:le|ge|ne|neq|in)(?![A-Za-z])|<|>|="
# x, \theta, x_1, f(x), f'(x), \text{area}, area, (x,y)
_NAME = re.compile(
    r"(?:[A-Za-z]+|\\[A-Za-z]+)(?:_\{?\w+\}?|')?(?:\(\w(?:,\w)*\))?|\\text\{[^{}]*\}"
    r"|\([a-z](?:, ?[a-z])+\)"
)
_VARIABLE = re.compile("[a-z]")
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}

Same = Callable[[str, str], bool]


@dataclass(frozen=True)
class Chain:
    """An answer as a chain of relations: n + 1 sides with n relations between them."""

    text: str
    sides: list[str]
    relations: list[str]

    @classmethod
    def of(cls, text: str) -> Chain:
        if r"\begin" in text:  # the relations inside of a matrix are its cells'
            return cls(text, [text], [])
        sides, relations = latex.cut(text, _RELATION)
        return cls(text, sides, relations)

    @property
    def named(self) -> bool:
        """Whether a name stands first: x = 5, x in [1, 2]."""
        return _NAME.fullmatch(self.sides[0]) is not None


def compare(expected: str, given: str, same: Same) -> bool | None:
    """Whether two answers are the same where one has a relation; None where neither has.

    `same` compares answers without relations.
    """
    first, second = Chain.of(expected), Chain.of(given)
    if not first.relations and not second.relations:
        return None
    if set(first.relations + second.relations) == {"="}:
        return _equations(first, second, same)
    intervals = interval(first), interval(second)
    if any(intervals):
        return same(intervals[0] or expected, intervals[1] or given)
    # x in [1, 2] is [1, 2]; other relations have to be the same text.
    sets = [c.sides[1] if c.named and c.relations == [r"\in"] else None for c in (first, second)]
    if all(sets) and first.sides[0] != second.sides[0]:
        return False
    return any(sets) and same(sets[0] or expected, sets[1] or given)


def _equations(expected: Chain, given: Chain, same: Same) -> bool:
    if not expected.relations:
        # x = 5 gives 5, and 2 + 3 = 5 and m + n = 5 do; but 2x = 5 and -x = 5 have to be solved.
        asked = given.sides[0]
        value = given.named or not re.search("[A-Za-z]", asked) or not re.match(r"-|.*\d", asked)
        return value and same(expected.text, given.sides[-1])
    if not given.relations:
        return expected.named and same(expected.sides[-1], given.text)
    if expected.named and given.named and expected.sides[0] == given.sides[0]:
        return same(expected.sides[-1], given.sides[-1])
    pair = expected.sides, given.sides
    return all(len(sides) == 2 for sides in pair) and symbols.same_equation(*pair)


def interval(chain: Chain) -> str | None:
    """The interval of a < x <= b, or of x > a, where x is one small letter; None of others."""
    kinds = set(chain.relations)
    if not kinds or not kinds <= _FLIPPED.keys():
        return None
    sides, relations = chain.sides, chain.relations
    if kinds <= {">", r"\ge"}:  # from the small side to the large one
        sides, relations = sides[::-1], [_FLIPPED[relation] for relation in reversed(relations)]
    elif not kinds <= {"<", r"\le"}:
        return None
    opening, closing = (
        "[" if relations[0] == r"\le" else "(",
        "]" if relations[-1] == r"\le" else ")",
    )
    match sides:
        case [low, name, high] if _VARIABLE.fullmatch(name):
            return f"{opening}{low},{high}{closing}"
        case [name, high] if _VARIABLE.fullmatch(name):
            return rf"(-\infty,{high}{closing}"
        case [low, name] if _VARIABLE.fullmatch(name):
            return rf"{opening}{low},\infty)"
    return None
