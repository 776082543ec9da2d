"""The exit codes of all commands, in one table."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit code means; `EXIT_CODES` has a sentence for each."""

    DONE = 0
    FAILED = 1
    INVALID = 2
    INCOMPLETE = 3
    UNSOUND = 4
    BUDGET = 5
    INTERRUPTED = 130


EXIT_CODES = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "the run could not continue (disk full, cluster lost); committed rows stay",
    ExitCode.INVALID: "the config, the input, a model or the run folder cannot be used",
    ExitCode.INCOMPLETE: "done, with dead letters; improve: reward rose while accuracy fell",
    ExitCode.UNSOUND: "duality: one of the stage's own checks failed",
    ExitCode.BUDGET: "a budget was reached; the same command with a larger one continues",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C or SIGTERM; the same command resumes the run",
}


def exit_code_table() -> str:
    """One line for each exit code."""
    lines = [f"  {code.value:<4} {meaning}" for code, meaning in EXIT_CODES.items()]
    return "\n".join(["Exit codes:", *lines])
