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
from jobs.display.preview import print_answers, print_warnings
from jobs.exit_codes import ExitCode
from jobs.interrupts import named

if TYPE_CHECKING:
    from pipeline.distill.config import DistillConfig


def _options(parser: argparse.ArgumentParser) -> None:
    config_options(
        parser, dry_run="check what a training would fail at, show data, steps and memory"
    )


def _run(options: argparse.Namespace) -> int:
    from pipeline.distill.config import DistillConfig

    config = load_config(DistillConfig, options)
    if without_run(options, config, lambda: _preview(config)):
        return ExitCode.DONE
    return _distill(config)


def _preview(config: DistillConfig) -> None:
    from pipeline.distill.preview import preview

    found = preview(config)
    for folder in found.data.folders:
        console.print_line(f"data     {folder}")
    about = "about " if found.data.about else ""
    console.print_line(
        f"training {found.steps:,} steps of {config.optimise.batch} rows, of {about}"
        f"{found.data.rows:,}, loss {found.loss}"
    )
    tokens = config.optimise.batch * found.row_tokens * (2 if "dpo" in found.loss else 1)
    console.print_line(
        f"tokens   {found.row_tokens:,.0f} a row on average, {tokens:,.0f} a step, "
        f"{tokens * found.steps:,.0f} in all (by the first {found.sampled} rows)"
    )
    if found.too_long:
        console.print_line(
            f"         {found.too_long} of the first {found.sampled} rows are too long and would "
            "be left out"
        )
    console.print_line(
        f"memory   {found.memory / 1e6:,.1f} MB in each worker for weights, gradients and "
        f"optimiser, {found.trained:,} of {found.parameters:,} weights trained; activations come "
        "on top"
    )
    console.print_line(
        f"measured on {found.prompts:,} validation prompts, every {config.validation.every:,} "
        f"steps, by {config.validation.metric}"
    )
    print_answers(found.answers, found.prompts, found.method)
    states = {
        "new": "is new",
        "begun": f"holds this training, {found.step} of {found.steps} steps taken: it would go on",
        "complete": "holds this student, complete: nothing would be done",
    }
    console.print_line(f"run_dir  {config.run_dir} {states[found.state]}")
    print_warnings(found.warnings)


def _distill(config: DistillConfig) -> int:
    from pipeline.distill.job import distill, resolved

    config, notes = resolved(config)
    for note in notes:
        console.print_note(note)
    with (
        training_progress.Progress() as progress,
        named(lambda: f"{config.run_dir} {progress.reached()}"),
    ):
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
    return ExitCode.DONE


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
