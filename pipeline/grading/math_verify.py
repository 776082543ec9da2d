"""Grading by math-verify, in a child process with a time limit and a memory limit.

Some answers make the symbolic comparison run without end. math-verify's own limits use signals,
which work in the main thread only, and a worker grades in another thread. A child process can be
killed.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Connection, Pipe
from typing import Any

from nabla_core.types import Prompt
from pipeline.grading.comparison import same
from pipeline.grading.extraction import expected_answer, final_answer
from pipeline.grading.verdict import Verdict

# What an answer may allocate beyond the imports. The child process stays below 200 MB with it.
ANSWER_BYTES = 64 << 20


class MathGrader:
    """Grades by math-verify. A response that takes longer than `seconds` is not correct.

    The child process starts at the first call, ends with its parent and is replaced after it was
    killed. Concurrent calls wait for one another.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._child: tuple[subprocess.Popen[bytes], Connection] | None = None
        self._lock = threading.RLock()

    def __call__(self, prompt: Prompt, response: str) -> Verdict:
        if prompt.answer is None:
            return Verdict(None, None)
        reply = self._ask("grade", prompt.answer, response)
        return reply if isinstance(reply, Verdict) else Verdict(None, False)

    def same(self, first: str, second: str) -> bool:
        """Whether two answers are equal, for the votes of method majority."""
        return first == second or bool(self._ask("same", first, second))

    def _ask(self, *request: str) -> Any:
        """The reply of the child process; None if it took too long, or died of the request."""
        with self._lock:
            pipe = self._pipe()
            try:
                pipe.send(request)
            except OSError:  # the child died since the last call: this request is not the cause
                self.close()
                pipe = self._pipe()
                pipe.send(request)
            try:
                if pipe.poll(self._seconds):
                    return pipe.recv()
            except (EOFError, OSError):
                pass  # this request killed the child, by its use of memory for example
            self.close()
            return None

    def close(self) -> None:
        """Kill the child process; the next call starts another."""
        if self._child is not None:
            process, pipe = self._child
            process.kill()
            process.wait()
            pipe.close()
            self._child = None

    def _pipe(self) -> Connection:
        if self._child is None:
            ours, theirs = Pipe()
            # A plain interpreter. multiprocessing would fork the threads of the worker with the
            # locks they hold, or import the main module again: in a worker that is Ray.
            process = subprocess.Popen(
                [
                    *(sys.executable, "-c"),
                    f"from {__name__} import serve; serve({theirs.fileno()}, {self._seconds})",
                ],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
            )
            theirs.close()
            self._child = (process, ours)
            # Wait for the import of math-verify, which must not count as time of an answer.
            ours.send(None)
            ours.recv()
        return self._child[1]


def serve(descriptor: int, seconds: float) -> None:
    """Answer the requests of `MathGrader` until it is gone; the main function of its child."""
    # Imported in the child alone: sympy takes seconds.
    import math_verify  # noqa: F401, PLC0415

    pipe = Connection(descriptor)
    logging.disable()  # math-verify warns at each call without a limit of its own
    pipe.recv()
    pipe.send(None)
    _limit_memory()
    while True:
        signal.alarm(0)
        try:
            kind, first, second = pipe.recv()
        except EOFError:
            return
        # The parent kills this process earlier, unless it was killed itself.
        signal.alarm(int(seconds) + 10)
        try:
            pipe.send(_verdict(first, second) if kind == "grade" else same(first, second))
        except MemoryError:
            return  # the parent starts another


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
