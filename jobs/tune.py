"""Choose the settings of the search on validation prompts.

  nabla tune --config configs/tune_embedded.yaml

Runs every candidate of `grid` on every prompt, and the same without a guide. Ranked proposals
vary beta, min_score and reward_weight; left to right, the learning rate (Adam) or beta (mirror
step). The chosen settings are in `<run_dir>/chosen.yaml`: give it to `nabla generate` as the last
--config. The same command again resumes. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from rich.table import Table

from jobs.command import Command, config_options, dead_option, load_config, without_run
from jobs.display import console, summary
from jobs.display.preview import print_preview
from jobs.exit_codes import MAKING_ROWS, ExitCode

if TYPE_CHECKING:
    from pipeline.tune.config import TuneConfig
    from pipeline.tune.report import Choice


def _options(parser: argparse.ArgumentParser) -> None:
    config_options(parser)
    dead_option(parser)


def _run(options: argparse.Namespace) -> int:
    from pipeline.tune.config import TuneConfig

    config = load_config(TuneConfig, options)
    if without_run(options, config, lambda: _preview(config)):
        return ExitCode.DONE
    return _tune(config, ok_with_dead=options.ok_with_dead)


def _preview(config: TuneConfig) -> None:
    from pipeline.tune.candidates import candidates
    from pipeline.tune.preview import preview

    print_preview(preview(config), config.run_dir, each="candidate")
    for candidate in candidates(config.decoding, config.grid):
        console.print_line(f"candidate: {candidate.name}")


def _tune(config: TuneConfig, *, ok_with_dead: bool) -> int:
    from jobs.display.progress import Progress
    from pipeline.tune.job import tune

    with Progress() as progress:
        outcome = tune(config, progress)
    if outcome.aborted or outcome.budget:
        summary.print_outcome(config.run_dir, outcome, summary.traces_table(outcome))
    else:
        _print_choice(config)
    return summary.exit_code(outcome, ok_with_dead=ok_with_dead)


def _print_choice(config: TuneConfig) -> None:
    from pipeline.tune.report import report

    choice = report(config)
    console.print_table(_table(choice))
    console.print_line(
        f"chosen: {choice.chosen.candidate.name}, written to {config.run_dir}/chosen.yaml"
    )
    if not choice.guide_helps:
        console.print_line(
            "The guide does not help here: the best setting with it is not clearly better than "
            f"the best one without it ({choice.difference:+.3f} ± {choice.half_width:.3f})."
        )
    line = {
        "measure": choice.measure,
        "prompts": len(choice.best.scores),
        "chosen": dict(choice.chosen.candidate.overrides),
        "guide_helps": choice.guide_helps,
        "best_minus_null": [
            round(choice.difference + sign * choice.half_width, 4) for sign in (0, -1, 1)
        ],
        "tried": {
            result.candidate.name: [round(result.mean, 4), round(result.calls, 2)]
            for result in choice.tried
        },
    }
    console.print_line(json.dumps(line))


def _table(choice: Choice) -> Table:
    table = Table("candidate", choice.measure, "calls", "MFLOP")
    for result in choice.tried:
        mark = ""
        if result is choice.best:
            mark = " <- best"
        elif result is choice.null:
            mark = " <- best without a guide"
        table.add_row(
            result.candidate.name + mark,
            f"{result.mean:.4f}",
            f"{result.calls:.1f}",
            f"{result.flops / 1e6:.1f}",
        )
    return table


COMMAND = Command(
    name="tune",
    summary="choose the settings of the search on validation prompts",
    description=__doc__,
    add_options=_options,
    run=_run,
    exit_codes=MAKING_ROWS,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
