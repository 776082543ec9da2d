"""Checks the duality between test-time gradients and KL-regularised RL, and writes a report.

    python -m jobs.duality --config configs/duality.yaml [key=value ...]

Parts continuous, tokens, embedded and policy run alone too: parts=[tokens]. The run folder
gets results.parquet, report.md, report.html and plots/. Exit codes: 0 the stage's own
instruments are sound (whatever the verdict on the claims), 4 one of them is broken, 2 bad
config or input, 130 interrupted, 1 the run could not go on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from jobs import command, console

if TYPE_CHECKING:
    from pipeline.duality.stage import Outcome

BROKEN = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    options = command.parser(
        "duality", __doc__, dry_run="show the config, check nothing"
    ).parse_intermixed_args(arguments)
    return command.exit_code(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    from jobs.progress import Progress  # noqa: PLC0415 - ray and torch: not for --help
    from pipeline.config import load, to_yaml  # noqa: PLC0415
    from pipeline.duality.stage import DualityConfig, run  # noqa: PLC0415

    config = load(DualityConfig, options.config, options.overrides)
    if options.dry_run:
        console.say(to_yaml(config).rstrip())
        return 0
    with console.terminable(), Progress() as progress:
        try:
            outcome = run(config, progress, console.say)
        except KeyboardInterrupt:
            progress.close()
            console.say("interrupted; the same command goes on after what is finished")
            return 130
    _tell(outcome, config.run_dir)
    return BROKEN if outcome.broken else 0


def _tell(outcome: Outcome, run_dir: str) -> None:
    from pipeline.duality.report.claims import tell  # noqa: PLC0415 - as above

    told = tell(outcome.findings)
    table = Table("claim", "verdict", "number", "threshold")
    for one in told:
        table.add_row(one.claim.text, one.verdict, one.number, one.threshold)
    console.show(table)
    for finding in outcome.broken:
        console.say(
            f"broken: {finding.part}: {finding.check} [{finding.arm}, seed {finding.seed}]: "
            f"{finding.value:.4g}, threshold {finding.threshold}, {finding.kind}"
        )
    console.say(f"report: {run_dir}/report.html")
    line = {
        "sound": not outcome.broken,
        "findings": len(outcome.findings),
        "seconds": {part: round(value) for part, value in outcome.seconds.items()},
        "claims": {one.claim.text: [one.verdict, one.number] for one in told},
    }
    console.say(json.dumps(line))


if __name__ == "__main__":
    sys.exit(main())
