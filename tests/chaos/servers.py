"""Starts `store_driver` as a process and lets it run drivers, each in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Server:
    """A process that runs one driver at a time."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._commands, self._answers = process.stdin, process.stdout

    def start(self, folder: Path, rows: int = 9, **environment: str) -> int:
        """Start a driver; returns the last of its process ids."""
        command = {"folder": str(folder), "rows": rows, "environment": environment}
        self._commands.write(json.dumps(command) + "\n")
        self._commands.flush()
        return int(self._answers.readline())

    def code(self) -> int:
        """The return code of the driver, once it has ended."""
        return int(self._answers.readline())

    def run(self, folder: Path, rows: int = 9, **environment: str) -> int:
        """Run a driver; returns its return code."""
        self.start(folder, rows, **environment)
        return self.code()


@contextmanager
def serving(*arguments: str, before: Sequence[str] = ()) -> Iterator[Server]:
    """A server with these arguments, started by the command `before`, if any."""
    command = [*before, sys.executable, "-m", "tests.chaos.store_driver", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0
