"""Train a student on exported traces: a model that answers alone what the search answered.

  nabla distill --config configs/distill_embedded.yaml

Data are folders of `nabla export`, or run folders that are exported first. Responses (sft, tokens)
are trained on with SFT, pairs (preference, reward) with DPO and an SFT loss on the chosen response.
The student is in `<run_dir>/student`: give that folder to other commands as lm.path. The same
command again continues from the last checkpoint. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from jobs.command import Command, config_options, load_config, without_run
from jobs.display import console, student_figures, training_progress

if TYPE_CHECKING:
    from pipeline.distill.config import DistillConfig


def _options(parser: argparse.ArgumentParser) -> None:
    config_options(parser, dry_run="check the data, print the config, train nothing")


def _run(options: argparse.Namespace) -> int:
    from pipeline.distill.config import DistillConfig

    config = load_config(DistillConfig, options)
    if options.dry_run:
        from pipeline.distill.job import check_ready

        check_ready(config)
    if without_run(options, config):
        return 0
    return _distill(config)


def _distill(config: DistillConfig) -> int:
    from pipeline.distill.job import distill, resolved

    config, notes = resolved(config)
    for note in notes:
        console.print_note(note)
    with training_progress.Progress() as progress:
        trained = distill(config, student_figures.print_measurement, progress.show)
    card = trained.card
    console.print_line(
        f"{config.run_dir}/student: {'was already there' if trained.already_complete else 'done'}"
    )
    console.print_table(student_figures.table(card))
    for warning in student_figures.warnings(card):
        console.print_line(f"warning: {warning}")
    console.print_line(
        json.dumps(
            {
                "student": f"{config.run_dir}/student",
                "rows": card["data"]["rows"],
                **card["metrics"],
                "baseline": card["baseline"],
            }
        )
    )
    return 0


COMMAND = Command(
    name="distill",
    summary="train a student on exported traces",
    description=__doc__,
    add_options=_options,
    run=_run,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
