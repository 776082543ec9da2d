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

from jobs import rows
from jobs.command import Command, load_config, without_run
from jobs.display import summary
from jobs.display.preview import print_preview
from jobs.exit_codes import MAKING_ROWS, ExitCode

if TYPE_CHECKING:
    from pipeline.counterfactuals.config import CounterfactualsConfig


def _run(options: argparse.Namespace) -> int:
    from pipeline.counterfactuals.config import CounterfactualsConfig

    config = load_config(CounterfactualsConfig, options)
    if without_run(options, config, lambda: _preview(config)):
        return ExitCode.DONE
    from pipeline.counterfactuals.job import counterfactuals

    return rows.run(
        config.run_dir,
        lambda progress: counterfactuals(config, progress, retry_dead=options.retry_dead),
        summary.counterfactuals_table,
        ok_with_dead=options.ok_with_dead,
    )


def _preview(config: CounterfactualsConfig) -> None:
    from pipeline.counterfactuals.preview import preview

    print_preview(preview(config), config.run_dir, each="temperature")


COMMAND = Command(
    name="counterfactuals",
    summary="measure what other tokens would have done: training data of a guide",
    description=__doc__,
    add_options=rows.options,
    run=_run,
    exit_codes=MAKING_ROWS,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
