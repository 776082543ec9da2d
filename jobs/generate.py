"""Refine every prompt of a set with test-time gradients; rows land in a folder of Parquet files.

  nabla generate --config configs/embedded.yaml run_dir=runs/first

The run uses the Ray cluster of `cluster.address`, or a local Ray. The same command again resumes:
no committed row is made twice.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from jobs import console, summary
from jobs.command import Command, config_options, load_config, print_config

if TYPE_CHECKING:
    from pipeline.generate.config import GenerateConfig


def _options(parser: argparse.ArgumentParser) -> None:
    config_options(
        parser, dry_run="print the config, the first prompt and the number of rows; run no model"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the same as prompts.limit=N")
    parser.add_argument("--retry-dead", action="store_true", help="run dead letters again")


def _run(options: argparse.Namespace) -> int:
    from pipeline.generate.config import GenerateConfig

    limit = [] if options.limit is None else [f"prompts.limit={options.limit}"]
    config = load_config(GenerateConfig, options, *limit)
    if options.dry_run:
        return _preview(config)
    return _generate(config, retry_dead=options.retry_dead)


def _preview(config: GenerateConfig) -> int:
    from pipeline.generate.preview import preview

    print_config(config)
    counts = preview(config)
    console.print_line(
        f"\nThe first prompt ({counts.first.id}), as the model reads it:\n{counts.rendered}\n"
    )
    console.print_line(
        f"{counts.prompts} prompts x {config.samples_per_prompt} samples = {counts.rows} rows; "
        f"{counts.finished} finished and {counts.dead} dead in {config.run_dir}"
    )
    return 0


def _generate(config: GenerateConfig, *, retry_dead: bool) -> int:
    from jobs.progress import Progress
    from pipeline.generate.job import generate

    with Progress() as progress:
        outcome = generate(config, progress, retry_dead=retry_dead)
    summary.print_outcome(config.run_dir, outcome, summary.traces_table(outcome))
    return summary.exit_code(outcome)


COMMAND = Command(
    name="generate",
    summary="refine every prompt of a set and write the traces to Parquet",
    description=__doc__,
    add_options=_options,
    run=_run,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
