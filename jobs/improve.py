"""Rounds of search and training: each guide learns from the search with the guide before it.

  nabla improve --config configs/improve_embedded.yaml

The table shows accuracy beside the judge's reward, because a search can exploit the judge's errors:
rounds end where reward rises and accuracy falls. `chosen.yaml` in the run folder names the guide to
use. The same command again resumes. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from jobs.command import Command, config_options, load_config, without_run
from jobs.display import console, guide_figures
from jobs.display.preview import amount, print_prompt, print_warnings
from jobs.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobs.display.progress import Progress
    from pipeline.improve.config import ImproveConfig
    from pipeline.improve.job import ImproveResult
    from pipeline.intervals import Interval


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
    console.print_line(
        f"rounds   {config.rounds} of training: {found.searched:,} rows of search, "
        f"{found.explored:,} of exploration, {found.evaluated:,} of evaluation"
    )
    graded = "not graded" if found.method == "none" else f"graded by verify.method={found.method}"
    console.print_line(f"answers  {graded}")
    console.print_line(
        f"cost     {amount(found.flops)} without training, estimated: every response max_tokens "
        "long"
    )
    print_warnings(found.warnings)


def _improve(config: ImproveConfig) -> int:
    from jobs.display.progress import Progress
    from pipeline.improve.job import improve
    from pipeline.improve.ready import resolved

    config, notes = resolved(config)
    for note in notes:
        console.print_note(note)

    def watch(name: str) -> Progress:
        console.print_line(name)
        return Progress()

    improved = improve(config, watch, guide_figures.print_measurement)
    console.print_table(_table(improved))
    chosen = improved.chosen
    if improved.stop_reason == "reward_hacked":
        console.print_line(
            f"round {improved.rounds[-1].number}: the judge's reward rose and accuracy fell, so "
            "the rounds end: the search exploits errors of the judge"
        )
    guide = chosen.guide or "the judge"
    console.print_line(f"chosen: {guide} (round {chosen.number}), in {config.run_dir}/chosen.yaml")
    line = {
        "rounds": [asdict(round_) for round_ in improved.rounds],
        "chosen": chosen.number,
        "stop_reason": improved.stop_reason,
    }
    console.print_line(json.dumps(line))
    return ExitCode.INCOMPLETE if improved.stop_reason == "reward_hacked" else ExitCode.DONE


def _table(improved: ImproveResult) -> Table:
    table = Table("round", "accuracy", "gained", "reward", "gained", "calls", "top-1", "trained on")
    for round_ in improved.rounds:
        table.add_row(
            f"{round_.number}" if round_.number else "0 (judge as guide)",
            "" if round_.accuracy is None else f"{round_.accuracy:.4f}",
            _gain(round_.accuracy_gain),
            f"{round_.reward:.4f}",
            _gain(round_.reward_gain),
            f"{round_.calls:.1f}",
            "" if round_.top1 is None else f"{round_.top1:.3f}",
            f"{round_.counterfactuals:,}",
        )
    return table


def _gain(gain: Interval | None) -> str:
    return "" if gain is None else f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


COMMAND = Command(
    name="improve",
    summary="rounds of search and training, for a better guide each round",
    description=__doc__,
    add_options=_options,
    run=_run,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
