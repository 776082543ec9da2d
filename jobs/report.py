"""Make pages of a run for a browser: an overview, and every trace with its revisions.

  nabla report run_dir=runs/first
  nabla report run_dir=runs/a,runs/b out=runs/comparison
  nabla report run_dir=runs/first --serve

The folder of pages opens from a disk, without a server or a network: open its index.html. Several
runs are compared prompt by prompt. `--serve` writes nothing: it shows the runs on 127.0.0.1 while
they go on, until Ctrl-C. The last line of the output is the page.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from jobs.command import Command, config_options, load_config, runs_as_list, without_run
from jobs.display import console
from jobs.exit_codes import ExitCode
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.report.config import ReportConfig

LOG_SECONDS = 10.0


def _options(parser: argparse.ArgumentParser) -> None:
    config_options(parser, dry_run="print the config, write nothing")
    parser.add_argument(
        "--serve",
        action="store_true",
        help="show the pages on 127.0.0.1 instead, of a run that goes on too; writes nothing",
    )


def _run(options: argparse.Namespace) -> int:
    from pipeline.report.config import ReportConfig
    from pipeline.report.job import report

    options.overrides = [runs_as_list(each) for each in options.overrides]
    config = load_config(ReportConfig, options)
    if without_run(options, config):
        return ExitCode.DONE
    if options.serve:
        return _serve(config)
    outcome = report(config, _Progress())
    for warning in outcome.warnings:
        console.print_line(f"warning: {warning}")
    console.print_line(str(outcome.page))
    return ExitCode.DONE


def _serve(config: ReportConfig) -> int:
    from pipeline.report.serve import serve

    if config.out is not None:
        raise ConfigError("--serve writes nothing: leave out `out`")
    try:
        serve(config, console.print_line)
    except KeyboardInterrupt:
        console.print_note("the server has ended")
    return ExitCode.DONE


class _Progress:
    """A line every `LOG_SECONDS`."""

    def __init__(self) -> None:
        self._logged = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            console.print_note(f"{done} of {total} rows")


COMMAND = Command(
    name="report",
    summary="make pages of a run for a browser",
    description=__doc__,
    add_options=_options,
    run=_run,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
