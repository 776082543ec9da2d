"""The console script `nabla`: one verb for each job.

Only what a verb needs is imported, and `--help` needs neither torch nor Ray.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

import nabla_core
from jobs.command import Command
from jobs.display import console
from jobs.exit_codes import ExitCode, exit_code_table

# Verbs by what a user wants to do. The verb `train-guide` is the COMMAND of jobs/train_guide.py.
VERBS = {
    "Try it": ("demo",),
    "Make data": ("generate", "estimate", "status", "show", "report", "export"),
    "Train on the data": ("distill",),
    "Make the search better": ("tune", "counterfactuals", "train-guide", "train-judge", "improve"),
    "Check the claims": ("compare", "duality"),
}

_DEMO = """\
The demo, from the folder of the project:
  . .venv/bin/activate
  nabla demo"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    first = words[0] if words else "--help"
    if first in ("-h", "--help"):
        console.print_line(help_text())
        return ExitCode.DONE
    if first == "--version":
        console.print_line(f"nabla {nabla_core.__version__}")
        return ExitCode.DONE
    verb = first.replace("_", "-")
    if verb not in verbs():
        console.print_error(_unknown(first))
        return ExitCode.INVALID
    return command(verb).main(words[1:], prog=f"nabla {verb}")


def verbs() -> list[str]:
    """Every verb, in the order of `nabla --help`."""
    return [verb for group in VERBS.values() for verb in group]


def command(verb: str) -> Command:
    """The command of a verb."""
    loaded = import_module(f"jobs.{verb.replace('-', '_')}").COMMAND
    assert isinstance(loaded, Command)
    return loaded


def help_text() -> str:
    """What `nabla --help` prints."""
    lines = [
        "usage: nabla VERB [options] [key=value ...]",
        "",
        "Offline generation of refined reasoning data with test-time gradients.",
    ]
    width = max(map(len, verbs()))
    for purpose, group in VERBS.items():
        lines += ["", f"{purpose}:"]
        lines += [f"  {verb:<{width}}  {command(verb).summary}" for verb in group]
    lines += [
        "",
        "Options of a verb: nabla VERB --help. All settings: configs/README.md.",
        "",
        exit_code_table(),
        "",
        _DEMO,
    ]
    return "\n".join(lines)


def _unknown(verb: str) -> str:
    if verb.startswith("-"):
        return f"unknown option {verb!r}; options come after a verb: nabla VERB [options]"
    nearest = get_close_matches(verb.replace("_", "-"), verbs(), n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(verbs())}"
    return f"unknown verb {verb!r}; {hint}"
