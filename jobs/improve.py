"""Rounds of generation and training: the LM and the guide learn from what the last ones found.

  nabla improve --config configs/improve_embedded.yaml

A round takes the steps that are listed in `steps`: search, samples, distill (an LM, trained on
verified traces), judge (trained on what that LM gets right and wrong), counterfactuals, guide. What
a round has trained and is clearly worse than what was there is not used. The table shows accuracy
beside the judge's reward, because a search can exploit the judge's errors: rounds end where reward
rises and accuracy falls. `chosen.yaml` in the run folder names the models and the method to use.
The same command again resumes. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from jobs.command import Command, config_options, load_config, without_run
from jobs.display import console, guide_figures, judge_figures, round_figures, student_figures
from jobs.display.preview import amount, print_prompt, print_warnings
from jobs.exit_codes import IMPROVING, ExitCode

if TYPE_CHECKING:
    from jobs.display.progress import Progress
    from pipeline.improve.config import ImproveConfig
    from pipeline.improve.rounds import Round


def _options(parser: argparse.ArgumentParser) -> None:
    config_options(parser)


def _run(options: argparse.Namespace) -> int:
    from pipeline.improve.config import ImproveConfig

    config = load_config(ImproveConfig, options)
    if without_run(options, config, lambda: _preview(config)):
        return ExitCode.DONE
    return _improve(config)


def _preview(config: ImproveConfig) -> None:
    from pipeline.improve.preview import preview

    found = preview(config)
    print_prompt(found.first, found.rendered)
    counted = {
        "of search": found.rows.searched,
        "of samples": found.rows.sampled,
        "of exploration": found.rows.explored,
        "of evaluation": found.rows.evaluated,
        "of greedy evaluation": found.rows.answered,
    }
    rows = ", ".join(f"{count:,} {name}" for name, count in counted.items() if count)
    console.print_line(f"rounds   {config.rounds} of {', '.join(config.steps)}")
    console.print_line(f"rows     {rows}")
    graded = "not graded" if found.method == "none" else f"graded by verify.method={found.method}"
    console.print_line(f"answers  {graded}; answers={config.answers}")
    console.print_line(
        f"cost     {amount(found.flops)} without training, estimated: every response max_tokens "
        "long"
    )
    print_warnings(found.warnings)


def _improve(config: ImproveConfig) -> int:
    from jobs.display.progress import Progress
    from pipeline.improve.job import improve
    from pipeline.improve.ready import resolved
    from pipeline.improve.runner import Observer

    config, notes = resolved(config)
    for note in notes:
        console.print_note(note)

    def watch(name: str) -> Progress:
        console.print_line(name)
        return Progress()

    observer = Observer(
        watch=watch,
        on_guide=guide_figures.print_measurement,
        on_student=student_figures.print_measurement,
        on_judge=judge_figures.print_measurement,
    )
    improved = improve(config, observer)
    round_figures.print_rounds(improved)
    console.print_line(f"chosen: {_named(improved.chosen)}, in {config.run_dir}/chosen.yaml")
    line = {
        "rounds": [asdict(round_) for round_ in improved.rounds],
        "chosen": improved.chosen.number,
        "stop_reason": improved.stop_reason,
    }
    console.print_line(json.dumps(line))
    return ExitCode.INCOMPLETE if improved.stop_reason == "reward_hacked" else ExitCode.DONE


def _named(chosen: Round) -> str:
    """The models of a round and how they answer best."""
    if chosen.way == "greedy":
        return f"{chosen.lm} alone, greedy (round {chosen.number})"
    return f"{chosen.lm} with {chosen.guide or 'the judge'} as guide (round {chosen.number})"


COMMAND = Command(
    name="improve",
    summary="rounds of generation and training, for a better LM and guide each round",
    description=__doc__,
    add_options=_options,
    run=_run,
    exit_codes=IMPROVING,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
