"""Measure what other tokens would have done: the training data of a guide.

  nabla counterfactuals --config configs/counterfactuals_embedded.yaml

Every prompt is answered at every temperature of `explore`. At some positions of each response
other tokens are put in place, the rest is generated again, and the result is scored. The run
folder is like that of `nabla generate`, and the same command again resumes. `nabla train-guide`
trains on the folder.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from jobs import console, rows, summary
from jobs.command import Command, load_config, print_config

if TYPE_CHECKING:
    from pipeline.counterfactuals.config import CounterfactualsConfig


def _run(options: argparse.Namespace) -> int:
    from pipeline.counterfactuals.config import CounterfactualsConfig

    config = load_config(CounterfactualsConfig, options)
    if options.dry_run:
        return _preview(config)
    from pipeline.counterfactuals.job import counterfactuals

    return rows.run(
        config.run_dir,
        lambda progress: counterfactuals(config, progress, retry_dead=options.retry_dead),
        summary.counterfactuals_table,
        ok_with_dead=options.ok_with_dead,
    )


def _preview(config: CounterfactualsConfig) -> int:
    from pipeline.counterfactuals.job import plan
    from pipeline.inputs.prompts import index

    print_config(config)
    planned = plan(config)
    count = len(index(planned.read(), planned.source))
    console.print_line(
        f"\n{count} prompts x {planned.samples} temperatures = {count * planned.samples} rows"
    )
    return 0


COMMAND = Command(
    name="counterfactuals",
    summary="measure what other tokens would have done: training data of a guide",
    description=__doc__,
    add_options=rows.options,
    run=_run,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
