"""Grading by math-verify, in a child process with a time limit.

Some answers make the symbolic comparison run without end. math-verify's own limits use signals,
which work in the main thread only, and a worker grades in another thread. A child process can be
killed.
"""

from __future__ import annotations

import logging
import multiprocessing
from multiprocessing.connection import Connection

from nabla_core.types import Prompt
from pipeline.grading.verdict import Verdict


class MathGrader:
    """Grades by math-verify. A response that takes longer than `seconds` is not correct.

    The child process starts at the first call, ends with its parent and is replaced after it was
    killed. Not safe for concurrent calls.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._child: tuple[multiprocessing.process.BaseProcess, Connection] | None = None

    def __call__(self, prompt: Prompt, response: str) -> Verdict:
        if prompt.answer is None:
            return Verdict(None, None)
        pipe = self._pipe()
        try:
            pipe.send((prompt.answer, response))
        except OSError:  # the child died since the last call: this response is not the cause
            self.close()
            pipe = self._pipe()
            pipe.send((prompt.answer, response))
        try:
            if pipe.poll(self._seconds):
                verdict: Verdict = pipe.recv()
                return verdict
        except (EOFError, OSError):
            pass  # this response killed the child, by its use of memory for example
        self.close()
        return Verdict(None, False)

    def close(self) -> None:
        """Kill the child process; the next call starts another."""
        if self._child is not None:
            process, pipe = self._child
            process.kill()
            process.join()
            pipe.close()
            self._child = None

    def _pipe(self) -> Connection:
        if self._child is None:
            # Not "fork": the worker has threads, and a forked child could inherit a held lock.
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            # Wait for the import of math-verify, which must not count as time of an answer.
            ours.send(None)
            ours.recv()
            self._child = (process, ours)
        return self._child[1]


def _serve(pipe: Connection) -> None:
    # Imported in the child alone: sympy takes seconds.
    from math_verify import parse, verify  # noqa: PLC0415

    logging.disable()  # math-verify warns at each call without a limit of its own
    pipe.recv()
    pipe.send(None)
    while True:
        try:
            answer, response = pipe.recv()
        except EOFError:
            return
        # An expected answer is often bare LaTeX, which math-verify finds between dollars only.
        expected = parse(answer, parsing_timeout=None) or parse(f"${answer}$", parsing_timeout=None)
        parsed = parse(response, parsing_timeout=None)
        correct = bool(verify(expected, parsed, timeout_seconds=None)) if expected else None
        pipe.send(Verdict(str(parsed[-1]) if parsed else None, correct))
