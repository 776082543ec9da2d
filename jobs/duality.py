"""Check the duality between test-time gradients and KL-regularised RL, and write a report.

  nabla duality --config configs/duality.yaml
  nabla duality --config configs/duality.yaml parts=[tokens]

The run folder gets results.parquet, report.md, report.html and plots/. The exit code tells whether
the stage's own checks passed, whatever the verdict on the claims.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from rich.table import Table

from jobs import console
from jobs.command import Command, config_options, load_config, print_config
from jobs.exit_codes import ExitCode

if TYPE_CHECKING:
    from pipeline.duality.stage import Outcome


def _options(parser: argparse.ArgumentParser) -> None:
    config_options(parser, dry_run="print the config, check nothing")


def _run(options: argparse.Namespace) -> int:
    from jobs.progress import Progress
    from pipeline.duality.stage import DualityConfig, run

    config = load_config(DualityConfig, options)
    if options.dry_run:
        print_config(config)
        return ExitCode.DONE
    with Progress() as progress:
        outcome = run(config, progress, console.print_line)
    _print_outcome(outcome, config.run_dir)
    return ExitCode.UNSOUND if outcome.broken else ExitCode.DONE


def _print_outcome(outcome: Outcome, run_dir: str) -> None:
    from pipeline.duality.report.claims import tell

    verdicts = tell(outcome.findings)
    table = Table("claim", "verdict", "number", "threshold")
    for one in verdicts:
        table.add_row(one.claim.text, one.verdict, one.number, one.threshold)
    console.print_table(table)
    for finding in outcome.broken:
        console.print_line(
            f"broken: {finding.part}: {finding.check} [{finding.arm}, seed {finding.seed}]: "
            f"{finding.value:.4g}, threshold {finding.threshold}, {finding.kind}"
        )
    console.print_line(f"report: {run_dir}/report.html")
    line = {
        "sound": not outcome.broken,
        "findings": len(outcome.findings),
        "seconds": {part: round(value) for part, value in outcome.seconds.items()},
        "claims": {one.claim.text: [one.verdict, one.number] for one in verdicts},
    }
    console.print_line(json.dumps(line))


COMMAND = Command(
    name="duality",
    summary="check the duality of test-time gradients and KL-regularised RL",
    description=__doc__,
    add_options=_options,
    run=_run,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
