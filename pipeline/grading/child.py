"""A grader's child process, which is killed when a response takes it too long.

Some responses make a comparison run without end. Limits by signals work in the main thread only,
and a worker grades in another thread. A child process can be killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from typing import Any


class GraderProcess:
    """Sends requests to a child process and waits at most `seconds` for each reply.

    The child process runs `main()` of `module`, which calls `serve`; `arguments` are its
    `sys.argv[3:]`. It starts at the first request, ends with its parent and is replaced after it
    was killed. Concurrent requests wait for one another.
    """

    def __init__(self, module: str, seconds: float, *arguments: str) -> None:
        self._module = module
        self._seconds = seconds
        self._arguments = arguments
        self._child: tuple[subprocess.Popen[bytes], Connection] | None = None
        self._lock = threading.RLock()

    def start(self) -> Any:
        """Start the child process where none runs. What it says of its start: None if it is ready
        for requests, else it has ended. Raises EOFError where it ended without a word."""
        with self._lock:
            if self._child is not None:
                return None
            ours, theirs = Pipe()
            # A plain interpreter. multiprocessing would fork the threads of the worker with the
            # locks they hold, or import the main module again: in a worker that is Ray.
            process = subprocess.Popen(
                [
                    *(sys.executable, "-c", f"from {self._module} import main; main()"),
                    *(str(theirs.fileno()), str(self._seconds), *self._arguments),
                ],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
            )
            theirs.close()
            self._child = (process, ours)
            # Wait for its imports, which must not count as time of a response.
            try:
                word = ours.recv()
            except EOFError:
                self.close()
                raise
            if word is not None:
                self.close()
            return word

    def ask(self, *request: Any) -> Any:
        """The reply of the child process; None if it took too long, or died of the request."""
        with self._lock:
            self.start()
            assert self._child is not None
            try:
                self._child[1].send(request)
            except OSError:  # the child died since the last call: this request is not the cause
                self.close()
                self.start()
                self._child[1].send(request)
            try:
                if self._child[1].poll(self._seconds):
                    return self._child[1].recv()
            except (EOFError, OSError):
                pass  # this request killed the child, by its use of memory for example
            self.close()
            return None

    def close(self) -> None:
        """Kill the child process; the next request starts another."""
        if self._child is not None:
            process, pipe = self._child
            process.kill()
            process.wait()
            pipe.close()
            self._child = None


def connection() -> Connection:
    """The connection to the parent; called once, by the child process."""
    return Connection(int(sys.argv[1]))


def serve(parent: Connection, reply: Callable[..., Any]) -> None:
    """Say that the child process is ready, and answer requests until the parent is gone."""
    seconds = float(sys.argv[2])
    parent.send(None)
    while True:
        signal.alarm(0)
        try:
            request = parent.recv()
        except EOFError:
            return
        # The parent kills this process earlier, unless it was killed itself.
        signal.alarm(int(seconds) + 10)
        try:
            parent.send(reply(*request))
        except MemoryError:
            return  # the parent starts another
