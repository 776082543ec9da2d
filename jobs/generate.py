"""Refine every prompt of a set with test-time gradients; rows land in a folder of Parquet files.

  nabla generate --config configs/embedded.yaml run_dir=runs/first

The run uses the Ray cluster of `cluster.address`, or a local Ray. The same command again resumes:
no committed row is made twice.
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
    from pipeline.generate.config import GenerateConfig


def _options(parser: argparse.ArgumentParser) -> None:
    rows.options(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="the same as prompts.limit=N")


def _run(options: argparse.Namespace) -> int:
    from pipeline.generate.config import GenerateConfig

    limit = [] if options.limit is None else [f"prompts.limit={options.limit}"]
    config = load_config(GenerateConfig, options, *limit)
    if without_run(options, config, lambda: _preview(config)):
        return ExitCode.DONE
    from pipeline.generate.job import generate

    return rows.run(
        config.run_dir,
        lambda progress: generate(config, progress, retry_dead=options.retry_dead),
        summary.traces_table,
        ok_with_dead=options.ok_with_dead,
    )


def _preview(config: GenerateConfig) -> None:
    from pipeline.generate.preview import preview

    print_preview(preview(config), config.run_dir)


COMMAND = Command(
    name="generate",
    summary="refine every prompt of a set and write the traces to Parquet",
    description=__doc__,
    add_options=_options,
    run=_run,
    exit_codes=MAKING_ROWS,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
