"""What the commands that make rows of prompts share: their options, and one run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobs.command import config_options, dead_option
from jobs.display import summary
from jobs.exit_codes import ExitCode
from jobs.interrupts import named

if TYPE_CHECKING:
    from rich.table import Table

    from jobs.display.progress import Progress
    from pipeline.run.plan import RunOutcome


# So many rows of a run folder are counted in a second or two.
COUNTED = 100_000


def options(parser: argparse.ArgumentParser) -> None:
    """The options of a command with a config, `--retry-dead` and `--ok-with-dead`."""
    config_options(parser)
    parser.add_argument("--retry-dead", action="store_true", help="run dead letters again")
    dead_option(parser)


def run(
    run_dir: str,
    job: Callable[[Progress], RunOutcome],
    table: Callable[[RunOutcome], Table],
    *,
    ok_with_dead: bool = False,
) -> ExitCode:
    """Run a job with its progress shown, print how it ended, and return the exit code."""
    from jobs.display.progress import Progress

    with Progress() as progress, named(lambda: f"{run_dir}, {_committed(run_dir, progress)}"):
        outcome = job(progress)
    summary.print_outcome(run_dir, outcome, table(outcome))
    return summary.exit_code(outcome, ok_with_dead=ok_with_dead)


def _committed(run_dir: str, progress: Progress) -> str:
    """How many rows a run that was interrupted has committed, those of its last moments too."""
    from pipeline.errors import StoreError
    from pipeline.run.status import run_status
    from pipeline.store.run_folder import open_folder

    if progress.total > COUNTED or not open_folder(run_dir).local:
        return f"at least {progress.committed()}"
    try:
        status = run_status(run_dir)
    except StoreError:  # interrupted before the run knew its rows
        return "no row committed"
    return f"{status.finished + status.dead} of {status.rows} rows committed"
