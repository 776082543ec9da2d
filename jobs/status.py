"""Show where a run stands: how many rows are committed, and who is running it.

  nabla status run_dir=runs/first

Reads the run folder of `generate`, `counterfactuals` or `tune`, from any machine that sees it;
needs no Ray and changes nothing.
"""

from __future__ import annotations

import argparse
import sys

from jobs import console
from jobs.command import Command
from pipeline.printable import visible


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="run_dir=PATH", help="a run folder, or its URI")


def _run(options: argparse.Namespace) -> int:
    from pipeline.run.status import run_status

    run_dir = options.run_dir.removeprefix("run_dir=")
    status = run_status(run_dir)
    holder = f" by {status.holder}" if status.holder else ""
    console.print_line(f"{run_dir}: {status.state}{holder}")
    committed = status.finished + status.dead
    share = committed / status.rows if status.rows else 1.0
    console.print_line(f"committed  {committed} of {status.rows} rows ({share:.1%})")
    if status.dead:
        named = status.dead_by_error.items()
        kinds = ", ".join(f"{count} {visible(kind)}" for kind, count in named)
        console.print_line(f"dead       {status.dead} ({kinds})")
    if status.damaged:
        console.print_line(f"damaged    {status.damaged} files; a resume moves them aside")
    return 0


COMMAND = Command(
    name="status",
    summary="show where a run stands",
    description=__doc__,
    add_options=_options,
    run=_run,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
