"""Answers graded a second, and how many of the verdicts are right.

    python -m tests.bench.pipeline.grading

By `verify.method` math and last_number, one answer after another: 1,600 solutions of GSM8K with
labels by their graders, every expected answer of MATH-500 in three phrasings, and pairs made by
hand. Then what hostile answers cost: seconds, and the most memory of the child process. Reads
../shared/data. Prints a table; the last line is one JSON object.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

from nabla_core.types import Prompt
from pipeline.grading.graders import Grader, Verify, grader
from pipeline.grading.math_verify import MathGrader
from tests.bench.arguments import show_help
from tests.pipeline.grading.hostile import HOSTILE, peak_megabytes
from tests.pipeline.grading.pairs import PHRASINGS, RIGHT, WRONG
from tests.shared_data import rows

# An expected answer, a response, and whether it is right.
Case = tuple[str, str, bool]


def main() -> None:
    show_help(__doc__)
    solutions: list[Case] = [
        (row["answer"], row["response"], row["correct"])
        for row in rows("gsm8k_graded_solutions.jsonl")
    ]
    answers: list[Case] = [
        (row["answer"], phrasing.replace("%s", row["answer"]), True)
        for row in rows("math500.jsonl")
        for phrasing in PHRASINGS[:3]
    ]
    pairs: list[Case] = [(*pair, True) for pair in RIGHT] + [(*pair, False) for pair in WRONG]
    math = MathGrader(5)
    math(Prompt.of("", id="x", answer="1"), "1")  # the start of the child process is not timed
    print("| cases | method | answers | right verdicts | answers/s |\n|---|---|---|---|---|")
    report = measure("GSM8K solutions", "math", math, solutions)
    last_number = grader(Verify(method="last_number"))
    report |= measure("GSM8K solutions", "last_number", last_number, solutions)
    report |= measure("MATH-500 answers", "math", math, answers)
    report |= measure("pairs by hand", "math", math, pairs)
    report |= hostile(math)
    math.close()
    print(json.dumps(report))


def measure(name: str, method: str, grade: Grader, cases: Iterable[Case]) -> dict[str, float]:
    """Grade all cases once."""
    prompts = [(Prompt.of("", id="x", answer=gold), text, truth) for gold, text, truth in cases]
    started = time.perf_counter()
    right = [grade(prompt, text).correct is truth for prompt, text, truth in prompts]
    rate = len(right) / (time.perf_counter() - started)
    print(f"| {name} | {method} | {len(right):,} | {sum(right):,} | {rate:,.0f} |")
    key = f"{name} {method}"
    return {key: len(right), f"{key} right": sum(right), f"{key} per_s": round(rate)}


def hostile(grade: MathGrader) -> dict[str, float]:
    """The slowest of the hostile answers, in seconds, and the peak of memory over all of them."""
    seconds, peak = 0.0, 0.0
    for response in HOSTILE.values():
        grade.same("x", "y")  # the start of the next child process is not timed
        started = time.perf_counter()
        grade(Prompt.of("", id="x", answer=r"3\sqrt{13}"), response)
        seconds = max(seconds, time.perf_counter() - started)
        if grade._child is not None:
            peak = max(peak, peak_megabytes(grade._child[0].pid))
    print(f"\n{len(HOSTILE)} hostile answers: at most {seconds:.1f} s and {peak:.0f} MB")
    return {"hostile": len(HOSTILE), "hostile_s": round(seconds, 1), "hostile_mb": round(peak)}


if __name__ == "__main__":
    main()
