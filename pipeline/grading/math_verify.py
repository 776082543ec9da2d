"""math-verify in a child process with a time limit.

Its own limits are signals, which fail outside the main thread, and some answers make the
symbolic comparison run for ever; a child can be killed.
"""

from __future__ import annotations

import logging
import multiprocessing
from multiprocessing.connection import Connection

from nabla_core.types import Prompt
from pipeline.grading.verdict import Verdict


class MathGrader:
    """Grades by math-verify. An answer that takes longer than `seconds` is not correct.

    The child starts on first use, ends with its parent, and is replaced where it has died. One
    thread at a time.
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
        except OSError:  # the child died before it saw this answer
            self.close()
            pipe = self._pipe()
            pipe.send((prompt.answer, response))
        try:
            if pipe.poll(self._seconds):
                verdict: Verdict = pipe.recv()
                return verdict
        except (EOFError, OSError):
            pass  # the answer was too much for it
        self.close()
        return Verdict(None, False)

    def close(self) -> None:
        """Kill the child; the next answer starts another."""
        if self._child is not None:
            process, pipe = self._child
            process.kill()
            process.join()
            pipe.close()
            self._child = None

    def _pipe(self) -> Connection:
        if self._child is None:
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            ours.send(None)
            ours.recv()
            self._child = (process, ours)
        return self._child[1]


def _serve(pipe: Connection) -> None:
    from math_verify import parse, verify  # noqa: PLC0415 - in the child alone

    logging.disable()  # it warns at every call that the limit is ours to keep
    pipe.recv()
    pipe.send(None)
    while True:
        try:
            answer, response = pipe.recv()
        except EOFError:
            return
        expected = parse(answer, parsing_timeout=None) or parse(f"${answer}$", parsing_timeout=None)
        found = parse(response, parsing_timeout=None)
        correct = bool(verify(expected, found, timeout_seconds=None)) if expected else None
        pipe.send(Verdict(str(found[-1]) if found else None, correct))
