"""Train a guide on counterfactuals, on traces, or on both.

  nabla train-guide --config configs/train_head_embedded.yaml

kind=head trains a model that predicts the advantage of every token at every position.
kind=gradient trains a reward model whose gradient points at better tokens. The guide is in
`<run_dir>/guide`: give that folder to other commands as reward.guide. The same command again
continues from the last checkpoint. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from jobs.command import Command, config_options, load_config, without_run
from jobs.display import console, guide_figures, training_progress
from jobs.display.preview import (
    amount,
    print_answers,
    print_columns,
    print_prompt,
    print_warnings,
    print_weights,
)
from jobs.exit_codes import ExitCode
from jobs.interrupts import named

if TYPE_CHECKING:
    from pipeline.train_guide.config import TrainGuideConfig


def _options(parser: argparse.ArgumentParser) -> None:
    config_options(parser)


def _run(options: argparse.Namespace) -> int:
    from pipeline.train_guide.config import TrainGuideConfig

    config = load_config(TrainGuideConfig, options)
    if without_run(options, config, lambda: _preview(config)):
        return ExitCode.DONE
    return _train(config)


def _preview(config: TrainGuideConfig) -> None:
    from pipeline.train_guide.preview import preview

    found = preview(config)
    print_prompt(found.first, found.rendered)
    optimise, validation = config.optimise, config.validation
    console.print_line(
        f"training {optimise.steps:,} steps of {optimise.batch} responses from "
        f"{', '.join(found.folders)}"
    )
    console.print_line(
        f"search   on {found.prompts:,} validation prompts, every {validation.every:,} steps"
    )
    print_answers(found.answers, found.prompts, found.method)
    print_columns(found.columns)
    console.print_line(
        f"cost     {amount(found.flops)}, estimated: responses of the length of the first ones in "
        "the data, searches with responses of max_tokens"
    )
    print_weights(found.parameters, "float32")
    print_warnings(found.warnings)


def _train(config: TrainGuideConfig) -> int:
    from pipeline.train_guide.job import train_guide
    from pipeline.train_guide.ready import resolved

    config, notes = resolved(config)
    for note in notes:
        console.print_note(note)
    steps, every = config.optimise.steps, config.validation.every

    def started() -> None:
        console.print_line(f"{config.run_dir}: {steps} steps, measured every {every}")

    with (
        training_progress.Progress() as progress,
        named(lambda: f"{config.run_dir} {progress.reached()}"),
    ):
        trained = train_guide(config, guide_figures.print_measurement, progress.show, started)
    card = trained.card
    console.print_line(
        f"{config.run_dir}/guide: {'was already there' if trained.already_complete else 'done'}"
    )
    console.print_table(guide_figures.table(card))
    console.print_line(guide_figures.suggestion(card, config.validation.kl))
    if overlap := card["data"]["validation_overlap"]:
        console.print_line(
            f"warning: {overlap} of the validation prompts, which chose the checkpoint, are in "
            "the training data too"
        )
    console.print_line(json.dumps({"guide": f"{config.run_dir}/guide", **_line(card)}))
    return ExitCode.DONE


def _line(card: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": card["kind"],
        "counterfactuals": card["data"]["counterfactuals"],
        **card["metrics"],
        "judge_gradient": card["judge_gradient"],
        "skipped_steps": len(card["skipped_steps"]),
    }


COMMAND = Command(
    name="train-guide",
    summary="train a guide on counterfactuals or traces",
    description=__doc__,
    add_options=_options,
    run=_run,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
