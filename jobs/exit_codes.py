"""The exit codes of all commands, in one table, and those of each kind of command."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType


class ExitCode(IntEnum):
    """What a command's exit code means; `EXIT_CODES` has a sentence for each."""

    DONE = 0
    FAILED = 1
    INVALID = 2
    INCOMPLETE = 3
    UNSOUND = 4
    BUDGET = 5
    INTERRUPTED = 130


Meanings = Mapping[ExitCode, str]

# INCOMPLETE and UNSOUND mean something else, or nothing, in most commands.
_DEAD_LETTERS = "done, with dead letters"
_REWARD_HACKED = "reward rose while accuracy fell"
_UNSOUND = "one of the stage's own checks failed"

EXIT_CODES: Meanings = MappingProxyType(
    {
        ExitCode.DONE: "done",
        ExitCode.FAILED: "the run could not continue (disk full, cluster lost); committed rows "
        "stay",
        ExitCode.INVALID: "the config, the input, a model or the run folder cannot be used",
        ExitCode.INCOMPLETE: f"{_DEAD_LETTERS}; improve: {_REWARD_HACKED}",
        ExitCode.UNSOUND: f"duality: {_UNSOUND}",
        ExitCode.BUDGET: "a budget was reached; the same command with a larger one continues",
        ExitCode.INTERRUPTED: "interrupted by Ctrl-C or SIGTERM; the same command resumes the run",
    }
)


def _of(*codes: ExitCode, **meanings: str) -> Meanings:
    """These codes, and others with a meaning of their own."""
    own = {ExitCode[name]: meaning for name, meaning in meanings.items()}
    found = {code: EXIT_CODES[code] for code in codes} | own
    return MappingProxyType(dict(sorted(found.items())))


# Commands that read what a run has left.
READING = _of(ExitCode.DONE, ExitCode.INVALID, ExitCode.INTERRUPTED)
# Commands that run something.
RUNNING = _of(*READING, ExitCode.FAILED)
# Commands that make rows of prompts.
MAKING_ROWS = _of(*RUNNING, ExitCode.BUDGET, INCOMPLETE=_DEAD_LETTERS)
IMPROVING = _of(*RUNNING, INCOMPLETE=_REWARD_HACKED)
CHECKING = _of(*READING, UNSOUND=_UNSOUND)


def exit_code_table(codes: Meanings = EXIT_CODES) -> str:
    """One line for each exit code."""
    lines = [f"  {code.value:<4} {meaning}" for code, meaning in codes.items()]
    return "\n".join(["Exit codes:", *lines])
