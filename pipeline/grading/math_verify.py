"""Grading by math-verify, in a child process with a time limit and a memory limit."""

from __future__ import annotations

import logging

from nabla_core.types import Prompt
from pipeline.grading.child import GraderProcess, connection, serve
from pipeline.grading.comparison import same
from pipeline.grading.extraction import expected_answer, final_answer
from pipeline.grading.verdict import Verdict

# What an answer may allocate beyond the imports. The child process stays below 200 MB with it.
ANSWER_BYTES = 64 << 20


class MathGrader(GraderProcess):
    """Grades by math-verify. A response that takes longer than `seconds` is not correct."""

    def __init__(self, seconds: float) -> None:
        super().__init__(__name__, seconds)

    def __call__(self, prompt: Prompt, response: str) -> Verdict:
        if prompt.answer is None:
            return Verdict(None, None)
        reply = self.ask("grade", prompt.answer, response)
        return reply if isinstance(reply, Verdict) else Verdict(None, False)

    def same(self, first: str, second: str) -> bool:
        """Whether two answers are equal, for the votes of method majority."""
        return first == second or bool(self.ask("same", first, second))


def main() -> None:
    """The main function of the child process of `MathGrader`."""
    # Imported in the child alone: sympy takes seconds.
    import math_verify  # noqa: F401, PLC0415

    logging.disable()  # math-verify warns at each call without a limit of its own
    _limit_memory()
    serve(connection(), _reply)


def _reply(kind: str, first: str, second: str) -> Verdict | bool:
    return _verdict(first, second) if kind == "grade" else same(first, second)


def _verdict(answer: str, response: str) -> Verdict:
    expected, given = expected_answer(answer), final_answer(response)
    if not expected:  # the input is at fault, not the response
        return Verdict(given, None)
    return Verdict(given, given is not None and same(expected, given))


def _limit_memory() -> None:
    """Let allocations fail beyond ANSWER_BYTES more than now. Only Linux can tell."""
    try:
        import resource  # noqa: PLC0415 - not on every platform

        with open("/proc/self/statm", encoding="ascii") as memory:
            pages = int(memory.read().split()[0])
        limit = pages * resource.getpagesize() + ANSWER_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, OSError, ValueError):
        pass
