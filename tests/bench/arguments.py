"""`--help` of the benchmarks that take plain words: the text of the module, and nothing is run."""

from __future__ import annotations

import sys


def show_help(text: str | None) -> None:
    """Print `text` and end where the command line asks for help."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(text)
        raise SystemExit(0)
