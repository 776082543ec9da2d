"""Check the claim that gradient search is dual to KL-regularised RL, and write a report.

  nabla duality --config configs/duality.yaml
  nabla duality --config configs/duality.yaml parts=[tokens]

The run folder gets results.parquet, report.md, report.html and plots/. Exit code 0
means that all self-checks pass, whatever the verdicts on the claims.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from rich.table import Table

from jobs.command import Command, config_options, load_config, without_run
from jobs.display import console
from jobs.exit_codes import CHECKING, ExitCode

if TYPE_CHECKING:
    from pipeline.duality.stage import StageResult


def _options(parser: argparse.ArgumentParser) -> None:
    config_options(parser, dry_run="print the config, check nothing")


def _run(options: argparse.Namespace) -> int:
    from pipeline.duality.config import DualityConfig

    config = load_config(DualityConfig, options)
    if without_run(options, config):
        return ExitCode.DONE
    from jobs.display.progress import Progress
    from pipeline.duality.stage import run

    with Progress() as progress:
        result = run(config, progress, console.print_line)
    _print_result(result, config.run_dir)
    return ExitCode.UNSOUND if result.failed_self_checks else ExitCode.DONE


def _print_result(result: StageResult, run_dir: str) -> None:
    from pipeline.duality.report.verdicts import judge_claims

    claims = judge_claims(result.findings)
    table = Table("claim", "verdict", "number", "threshold")
    for claim in claims:
        table.add_row(claim.claim.text, claim.verdict, claim.number, claim.threshold)
    console.print_table(table)
    for finding in result.failed_self_checks:
        console.print_line(f"self-check failed: {finding}")
    console.print_line(f"report: {run_dir}/report.html")
    line = {
        "self_checks_passed": not result.failed_self_checks,
        "findings": len(result.findings),
        "seconds": {part: round(value) for part, value in result.seconds.items()},
        "claims": {claim.claim.text: [claim.verdict, claim.number] for claim in claims},
    }
    console.print_line(json.dumps(line))


COMMAND = Command(
    name="duality",
    summary="check the duality of test-time gradients and KL-regularised RL",
    description=__doc__,
    add_options=_options,
    run=_run,
    exit_codes=CHECKING,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
