"""Train a judge on graded answers, and on what fooled the last judge.

  nabla train-judge --config configs/train_judge_embedded.yaml

Data are run folders of `nabla generate` whose prompts have answers: samples of the LM, and searches
and guided decoding against the last judge, whose rejected responses are graded too. The judge is in
`<run_dir>/judge`, with a report beside the last one: give that folder to other commands as
reward.judge. The same command again continues from the last checkpoint. The last line of the output
is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from jobs.command import Command, config_options, load_config, without_run
from jobs.display import console, judge_figures, training_progress
from jobs.display.preview import (
    amount,
    print_answers,
    print_columns,
    print_prompt,
    print_warnings,
    print_weights,
)
from jobs.exit_codes import ExitCode

if TYPE_CHECKING:
    from pipeline.train_judge.config import TrainJudgeConfig


def _options(parser: argparse.ArgumentParser) -> None:
    config_options(parser)


def _run(options: argparse.Namespace) -> int:
    from pipeline.train_judge.config import TrainJudgeConfig

    config = load_config(TrainJudgeConfig, options)
    if without_run(options, config, lambda: _preview(config)):
        return ExitCode.DONE
    return _train(config)


def _preview(config: TrainJudgeConfig) -> None:
    from pipeline.train_judge.preview import preview

    found = preview(config)
    print_prompt(found.first, found.rendered)
    optimise, validation = config.optimise, config.validation
    console.print_line(
        f"training {optimise.steps:,} steps of {optimise.batch} answers from "
        f"{found.rows:,} rows in {', '.join(config.data.runs)}"
    )
    console.print_line(
        f"measured every {validation.every:,} steps on {found.prompts:,} validation prompts: "
        f"{validation.samples} samples of each" + (", and a search" if validation.search else "")
    )
    print_answers(found.answers, found.prompts, found.method)
    print_columns(found.columns)
    console.print_line(
        f"cost     {amount(found.flops)}, estimated: answers of the length of the first ones in "
        "the data, samples and searches with responses of max_tokens"
    )
    print_weights(found.parameters, "float32")
    print_warnings(found.warnings)


def _train(config: TrainJudgeConfig) -> int:
    from pipeline.train_judge.job import train_judge
    from pipeline.train_judge.ready import resolved

    config, notes = resolved(config)
    for note in notes:
        console.print_note(note)
    with training_progress.Progress() as progress:
        trained = train_judge(config, judge_figures.print_measurement, progress.show)
    card = trained.card
    console.print_line(
        f"{config.run_dir}/judge: {'was already there' if trained.already_complete else 'done'}"
    )
    console.print_table(judge_figures.table(card))
    for warning in judge_figures.warnings(card):
        console.print_line(f"warning: {warning}")
    console.print_line(json.dumps({"judge": f"{config.run_dir}/judge", **_line(card)}))
    return ExitCode.DONE


def _line(card: dict[str, Any]) -> dict[str, Any]:
    def short(figures: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in figures.items() if name != "report"}

    return {
        "answers": card["data"]["trained_on"]["answers"],
        "hard": card["data"]["trained_on"]["hard"],
        **short(card["metrics"]),
        "last_judge": short(card["baseline"]),
    }


COMMAND = Command(
    name="train-judge",
    summary="train a judge on graded answers, and on what fooled the last one",
    description=__doc__,
    add_options=_options,
    run=_run,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
