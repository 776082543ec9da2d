"""Digit chains: eight steps of arithmetic modulo 10, left to right.

Prompt `7+8*3-4+1-2*6+5-9`, response `5;5;1;2;0;0;5;6`: the running value after each step
(there is no operator precedence). The last value is the answer, all eight are the trace.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Literal, get_args

from nabla_core.types import Prompt

Split = Literal["train", "validation", "test"]

STEPS = 8
DIGITS = "0123456789"
OPERATORS = "+-*"
SEPARATOR = ";"


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of a response.

    `answer`: its last value is right; `trace`: all eight values are right. `predicted` is the
    last value, None where the response does not have eight values or the last one is no digit.
    """

    answer: bool
    trace: bool
    predicted: str | None


def prompts(count: int, *, seed: int, split: Split) -> list[Prompt]:
    """`count` uniformly drawn chains of one split, with ids `digits/<split>/<seed>/<index>`.

    Splits are disjoint for all seeds. With a larger `count` the first prompts stay the same.
    Raises ValueError on an unknown split.
    """
    if split not in get_args(Split):
        raise ValueError(f"split {split!r} is none of {', '.join(get_args(Split))}")
    rng = random.Random(f"digits/{split}/{seed}")
    drawn: list[Prompt] = []
    # Rejection: a chain belongs to a split by its own hash, so splits stay disjoint for all seeds.
    while len(drawn) < count:
        text = chain(rng)
        if split_of(text) == split:
            prompt_id = f"digits/{split}/{seed}/{len(drawn)}"
            drawn.append(Prompt.of(text, id=prompt_id, answer=solve(text)[-1]))
    return drawn


def chain(rng: random.Random) -> str:
    """One uniformly drawn prompt text, of any split."""
    operands = rng.choices(DIGITS, k=STEPS + 1)
    operators = rng.choices(OPERATORS, k=STEPS)
    steps = zip(operators, operands[1:], strict=True)
    return operands[0] + "".join(operator + operand for operator, operand in steps)


def split_of(text: str) -> Split:
    """The split of a prompt text, by a hash: 80 % train, 10 % validation, 10 % test."""
    bucket = hashlib.blake2b(text.encode(), digest_size=8).digest()[0] % 10
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


def solve(text: str) -> str:
    """The right response to a prompt text. Raises ValueError where it is no digit chain."""
    operands, operators = text[::2], text[1::2]
    if (
        len(text) != 2 * STEPS + 1
        or any(operand not in DIGITS for operand in operands)
        or any(operator not in OPERATORS for operator in operators)
    ):
        raise ValueError(f"{text!r} is no chain of {STEPS} steps such as 7+8*3-4+1-2*6+5-9")
    value = int(operands[0])
    values: list[str] = []
    for operator, operand in zip(operators, operands[1:], strict=True):
        value = step(value, operator, int(operand))
        values.append(str(value))
    return SEPARATOR.join(values)


def step(value: int, operator: str, operand: int) -> int:
    """One step of a chain, modulo 10."""
    if operator == "+":
        return (value + operand) % 10
    if operator == "-":
        return (value - operand) % 10
    return value * operand % 10


def grade(prompt_text: str, response_text: str) -> Grade:
    """Grade a response (without its stop token) to a prompt of this task."""
    gold = solve(prompt_text)
    values = response_text.split(SEPARATOR)
    last = values[-1]
    predicted = last if len(values) == STEPS and len(last) == 1 and last in DIGITS else None
    return Grade(predicted == gold[-1], response_text == gold, predicted)
