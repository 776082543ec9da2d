"""Choose eta, stop and trust (ranked), or the learning rate or eta (left to right, Adam or the
mirror step) on validation prompts.

    python -m jobs.tune --config configs/tune_embedded.yaml [key=value ...]

Tries every candidate of `grid` on every prompt, no gradient at all among them, on the same
Ray path as jobs.generate; run it again to resume. Prints the table, writes the chosen
settings to `<run_dir>/chosen.yaml` (give it to jobs.generate as a second --config), and says
so where the guide does not pay. The last line is one JSON object. Exit codes as generate's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from jobs import command, console
from pipeline.config import load, to_yaml
from pipeline.tune.config import TuneConfig

if TYPE_CHECKING:
    from pipeline.tune.report import Finding


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    parser = command.parser("tune", __doc__, dry_run="show the candidates, run none")
    options = parser.parse_intermixed_args(arguments)

    def work() -> int:
        config = load(TuneConfig, options.config, options.overrides)
        return _preview(config) if options.dry_run else _tune(config)

    return command.exit_code(work)


def _preview(config: TuneConfig) -> int:
    from pipeline.tune.job import candidates  # noqa: PLC0415 - with _tune, after the config is right

    console.say(to_yaml(config).rstrip())
    for candidate in candidates(config.decoding, config.grid):
        console.say(f"candidate: {candidate.name}")
    return 0


def _tune(config: TuneConfig) -> int:
    from jobs.progress import Progress  # noqa: PLC0415 - ray: not before the config is right
    from pipeline.tune.job import tune  # noqa: PLC0415

    with console.terminable(), Progress() as progress:
        try:
            outcome = tune(config, progress)
        except KeyboardInterrupt:
            progress.close()
            console.say(f"interrupted; the same command goes on from {config.run_dir}")
            return 130
    if outcome.hopeless:
        console.close_table(config.run_dir, outcome)
    else:
        _tell(config)
    return 3 if outcome.dead or outcome.hopeless else 0


def _tell(config: TuneConfig) -> None:
    from pipeline.tune.report import report  # noqa: PLC0415 - as above

    finding = report(config)
    console.show(_table(finding))
    console.say(
        f"chosen: {finding.chosen.candidate.name}, written to {config.run_dir}/chosen.yaml"
        if finding.pays
        else f"the gradient does not pay here (best minus no gradient {finding.difference:+.3f} "
        f"± {finding.half:.3f}): chosen is {finding.chosen.candidate.name}, without it"
    )
    line = {
        "measure": finding.measure,
        "prompts": len(finding.best.scores),
        "chosen": dict(finding.chosen.candidate.overrides),
        "pays": finding.pays,
        "best_minus_null": [
            round(finding.difference + sign * finding.half, 4) for sign in (0, -1, 1)
        ],
        "tried": {
            one.candidate.name: [round(one.mean, 4), round(one.calls, 2)] for one in finding.tried
        },
    }
    console.say(json.dumps(line))


def _table(finding: Finding) -> Table:
    table = Table("candidate", finding.measure, "calls", "MFLOP")
    for one in finding.tried:
        mark = " <- best" if one is finding.best else " <- best without" * (one is finding.null)
        table.add_row(
            one.candidate.name + mark,
            f"{one.mean:.4f}",
            f"{one.calls:.1f}",
            f"{one.flops / 1e6:.1f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
