"""The task of this folder: short sums and word problems, answered step by step.

    python configs/wordproblems/problems.py FOLDER

writes `train.jsonl`, `validation.jsonl` and `test.jsonl` into the folder, always the same problems.
They are of `reasoning-gym` (Apache-2.0): `chain_sum`, and six templates of `gsm_symbolic`, those
with the shortest solutions. `answer` and `completion` of a row are a right solution, its gold
chain. No question is in two files. `grade_steps` labels the steps of a response
(`goal.step_function`).
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILES = {"train": 4000, "validation": 400, "test": 1000}
# Every question belongs to one file, whoever draws it: which one, its digest says.
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
SYSTEM = "Solve step by step."

# The settings of chain_sum.
TERMS, DIGITS = (3, 5), 1
# The templates of gsm_symbolic whose solutions are shortest: 34 to 41 tokens of SmolLM2.
TEMPLATES = (10, 16, 26, 43, 58, 72)
# Of ten problems, this many are of gsm_symbolic.
WORDY = 4
SEED = 0
# Drawn one after the other until the files are full.
MOST = 100_000

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# A comma ends a step behind a digit only: "Together, they have" is no step.
STEP = re.compile(r"(?:[^,\n]|(?<!\d),)+")


@dataclass(frozen=True)
class Problem:
    """A question and its gold chain, whose last number is the answer."""

    question: str
    chain: str


def grade_steps(prompt: dict[str, Any], response: str) -> tuple[list[tuple[int, bool]], bool]:
    """Where each step of a response ends, with whether it and all before it are right; and whether
    the steps are all of a right response.

    A step is a line, or a part of it that a comma behind a number ends. It is right if its numbers
    are those of the same step of the gold chain, `prompt["answer"]`: words and spaces may differ.
    """
    gold = [_numbers(step) for step in STEP.findall(prompt["answer"])]
    steps: list[tuple[int, bool]] = []
    right = True
    for found in STEP.finditer(response.rstrip()):
        number = len(steps)
        right = right and number < len(gold) and _numbers(found.group()) == gold[number]
        steps.append((found.end(), right))
    return steps, len(steps) == len(gold)


def _numbers(step: str) -> list[float]:
    """The numbers of a step. A minus between two of them is an operator."""
    return [float(number) for number in NUMBER.findall(re.sub(r"(?<=\d)\s*-\s*(?=\d)", " ", step))]


def problems(name: str) -> list[dict[str, str]]:
    """The rows of a file."""
    return [
        {
            "id": f"{name}/{number}",
            "system": SYSTEM,
            "prompt": problem.question,
            "answer": problem.chain,
            "completion": problem.chain,
        }
        for number, problem in enumerate(_all()[name])
    ]


@cache
def _all() -> dict[str, list[Problem]]:
    sums, stories = _sums(), _stories()
    files: dict[str, list[Problem]] = {name: [] for name in FILES}
    seen: set[str] = set()
    for number in range(MOST):
        problem = next(stories if number % 10 < WORDY else sums)
        name = _file_of(problem.question)
        if problem.question not in seen and len(files[name]) < FILES[name]:
            seen.add(problem.question)
            files[name].append(problem)
        if all(len(files[name]) == count for name, count in FILES.items()):
            return files
    raise RuntimeError(f"{MOST:,} problems did not fill the files: {FILES}")


def _file_of(question: str) -> str:
    place = random.Random(f"word problems {question}").random()
    for name, share in SHARES.items():
        if place < share:
            return name
        place -= share
    return name


def _sums() -> Iterator[Problem]:
    from reasoning_gym import create_dataset  # noqa: PLC0415 - the grader needs none of it

    made = create_dataset(
        "chain_sum",
        min_terms=TERMS[0],
        max_terms=TERMS[1],
        min_digits=DIGITS,
        max_digits=DIGITS,
        seed=SEED,
        size=MOST,
    )
    for item in made:
        expression = item["metadata"]["expression"]
        yield Problem(f"{expression} =", chain_of(expression))


def chain_of(expression: str) -> str:
    """The steps of a sum from left to right: "12 + 34 - 5" is "12 + 34 = 46, 46 - 5 = 41"."""
    first, *rest = expression.split()
    value, steps = int(first), []
    for sign, term in zip(rest[::2], rest[1::2], strict=True):
        after = value + int(term) if sign == "+" else value - int(term)
        steps.append(f"{value} {sign} {term} = {after}")
        value = after
    return ", ".join(steps)


def _stories() -> Iterator[Problem]:
    from reasoning_gym import create_dataset  # noqa: PLC0415 - the grader needs none of it

    made = create_dataset("gsm_symbolic", seed=SEED, size=20 * MOST)
    for number, template in enumerate(made.task_indices):
        if template in TEMPLATES:
            item = made[number]
            question = item["question"].partition(" Give the result as")[0]
            yield Problem(question, item["metadata"]["answer_cot"])


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        lines = "".join(json.dumps(row) + "\n" for row in problems(name))
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
