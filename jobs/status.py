"""Where a run stands: `python -m jobs.status run_dir=runs/embedded`.

Counts only rows that are committed. Exit codes: 0, or 2 where there is no run folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs import console
from pipeline.errors import PipelineError
from pipeline.run.status import standing


def main(arguments: Sequence[str] | None = None) -> int:
    """Print where a run stands; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.status", description=__doc__)
    parser.add_argument("run_dir", metavar="run_dir=PATH", help="a run folder or its URI")
    run_dir = parser.parse_args(arguments).run_dir.removeprefix("run_dir=")
    try:
        found = standing(run_dir)
    except PipelineError as error:
        console.error(error)
        return 2
    by = f" by {found.holder}" if found.holder else ""
    console.say(f"{run_dir}: {found.state}{by}")
    share = (found.finished + found.dead) / found.rows
    console.say(f"committed  {found.finished + found.dead} of {found.rows} rows ({share:.1%})")
    if found.dead:
        kinds = ", ".join(f"{count} {kind}" for kind, count in found.dead_by_error.items())
        console.say(f"dead       {found.dead} ({kinds})")
    if found.damaged:
        console.say(f"damaged    {found.damaged} files; a resume sets them aside")
    return 0


if __name__ == "__main__":
    sys.exit(main())
