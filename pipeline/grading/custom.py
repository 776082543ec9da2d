"""Grading by a function of the user's own, in a child process with a time limit."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any

from nabla_core.types import Prompt
from pipeline.errors import ConfigError
from pipeline.grading.child import GraderProcess, connection, serve
from pipeline.grading.verdict import Verdict


class GradingError(Exception):
    """The user's function raised an exception, or returned what is no verdict."""


class CustomFunction(GraderProcess):
    """Calls a function of a prompt and a response, `function` (a `module:name`), in a child process
    that runs `main` of `module`. `key` is the setting that names it, for errors."""

    def __init__(self, module: str, function: str, seconds: float, key: str) -> None:
        super().__init__(module, seconds, function)
        self._named = f"{key}={function}"

    def call(self, prompt: Prompt, response: str) -> Any:
        """What the child process makes of the result; None where it took too long, or died. Raises
        GradingError where the function fails."""
        self.check()
        record = {
            "id": prompt.id,
            "messages": [dict(message) for message in prompt.messages],
            "system": prompt.system,
            "answer": prompt.answer,
        }
        reply = self.ask(record, response)
        if isinstance(reply, str):
            raise GradingError(f"{self._named}: prompt {prompt.id!r}: {reply}")
        return reply

    def check(self) -> None:
        """Start the child process where none runs. Raises ConfigError where the function is not
        found, or its module ends the process."""
        try:
            reason = self.start()
        except EOFError:
            reason = "its module ended the process that imported it"
        if reason is not None:
            raise ConfigError(f"{self._named}: {reason}")


class CustomGrader(CustomFunction):
    """Grades by `function`, a `module:name`. A response that takes longer than `seconds`, or that
    kills the child process, is not correct. Raises GradingError where the function fails."""

    def __init__(self, function: str, seconds: float) -> None:
        super().__init__(__name__, function, seconds, "verify.function")

    def __call__(self, prompt: Prompt, response: str) -> Verdict:
        reply = self.call(prompt, response)
        return reply if isinstance(reply, Verdict) else Verdict(None, False)


def check_function(function: str) -> None:
    """Raise ConfigError where `module:name` is no function that this machine can import."""
    grade = CustomGrader(function, seconds=1)
    try:
        grade.check()
    finally:
        grade.close()


def main() -> None:
    """The main function of the child process of `CustomGrader`."""
    serve_function(_verdict)


def serve_function(read: Callable[[Any], Any]) -> None:
    """In a child process: answer requests with what `read` makes of the function's results. It
    raises TypeError where a result is of no use; errors are answered as texts."""
    parent = connection()
    sys.path.insert(0, os.getcwd())
    module, _, name = sys.argv[3].partition(":")
    try:
        function = getattr(import_module(module), name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the parent tells it
        parent.send(_described(error))
        return
    if not callable(function):
        parent.send(f"{name} is no function, but of type {type(function).__name__}")
        return

    def reply(record: dict[str, Any], response: str) -> Any:
        try:
            return read(function(record, response))
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the parent raises it
            return _described(error)

    serve(parent, reply)


def _verdict(found: Any) -> Verdict:
    match found:
        case True | False | None:
            return Verdict(None, found)
        case (str() | None as predicted, True | False | None as correct):
            return Verdict(predicted, correct)
    raise TypeError(
        "it must return True, False or None, or a pair of the answer that it found and one of them,"
        f" got {found!r:.100}"
    )


def _described(error: BaseException) -> str:
    """The exception, and the last line of the user's code that it came through."""
    what = f"{type(error).__name__}: {error}"
    files = [
        f for f in traceback.extract_tb(error.__traceback__) if f.filename[:1] not in ("<", "")
    ][1:]
    return f"{what} ({files[-1].filename}, line {files[-1].lineno})" if files else what
