"""What else could have stood there: responses, alternatives, and what became of them.

    python -m jobs.counterfactuals --config configs/counterfactuals_embedded.yaml [key=value ...]

Explores every prompt at every temperature of `explore`, on the same Ray path and into the same
kind of folder as jobs.generate; run it again to resume. jobs.train_guide trains on the folder.
Exit codes as generate's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from jobs import command, console
from pipeline.config import load, to_yaml
from pipeline.counterfactuals.config import CounterfactualsConfig

if TYPE_CHECKING:
    from pipeline.run.plan import Outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    parser = command.parser("counterfactuals", __doc__)
    parser.add_argument("--retry-dead", action="store_true", help="try dead letters again")
    options = parser.parse_intermixed_args(arguments)

    def work() -> int:
        config = load(CounterfactualsConfig, options.config, options.overrides)
        if options.dry_run:
            return _preview(config)
        return _explore(config, retry_dead=options.retry_dead)

    return command.exit_code(work)


def _preview(config: CounterfactualsConfig) -> int:
    from pipeline.counterfactuals.job import plan  # noqa: PLC0415 - after the config is right
    from pipeline.inputs.prompts import index  # noqa: PLC0415

    console.say(to_yaml(config).rstrip())
    planned = plan(config)
    count = len(index(planned.read(), planned.source))
    console.say(
        f"\n{count} prompts x {planned.samples} temperatures: {count * planned.samples} rows"
    )
    return 0


def _explore(config: CounterfactualsConfig, *, retry_dead: bool) -> int:
    from jobs.progress import Progress  # noqa: PLC0415 - ray: not before the config is right
    from pipeline.counterfactuals.job import counterfactuals  # noqa: PLC0415

    with console.terminable(), Progress() as progress:
        try:
            outcome = counterfactuals(config, progress, retry_dead=retry_dead)
        except KeyboardInterrupt:
            progress.close()
            console.say(f"interrupted; the same command goes on from {config.run_dir}")
            return 130
    console.show(_table(config.run_dir, outcome))
    return 3 if outcome.dead or outcome.hopeless else 0


def _table(run_dir: str, outcome: Outcome) -> Table:
    totals = outcome.totals
    table = Table(title=console.headline(run_dir, outcome), title_justify="left", show_header=False)
    table.add_row("responses", f"{outcome.finished} of {outcome.total}")
    if outcome.dead:
        errors = ", ".join(f"{n} {kind}" for kind, n in totals["dead_by_error"].items())
        table.add_row("dead letters", f"{outcome.dead} ({errors})")
    if totals["places"]:
        table.add_row("mean score", f"{totals['mean_score']:.4f}")
        table.add_row(
            "positions", f"{totals['places']:,}, better was possible at {totals['better']:.0%}"
        )
        table.add_row("alternatives", f"{totals['alternatives']:,}")
        table.add_row("engine seconds", f"{totals['cost']['seconds']:.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
