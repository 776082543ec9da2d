"""Rounds of search and training: each round's guide learns where the last one went wrong.

    python -m jobs.improve --config configs/improve_embedded.yaml [key=value ...]

The table tells accuracy against the answers beside the judge's reward, for a judge can be
hacked; rounds end where the two part. Run it again to go on. chosen.yaml in the run folder
names the guide to use. The last line is one JSON object. Exit codes: 0 done, 2 bad config,
model or data, 1 it could not go on, 3 the reward was hacked, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from jobs import command, console, guide_figures
from pipeline.improve.config import ImproveConfig

if TYPE_CHECKING:
    from jobs.progress import Progress
    from pipeline.improve.job import Improved


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    return command.run(
        "improve",
        __doc__,
        ImproveConfig,
        _improve,
        arguments,
        "show the config, run nothing",
    )


def _improve(config: ImproveConfig) -> int:
    from jobs.progress import Progress  # noqa: PLC0415 - ray: after the config is right
    from pipeline.improve.job import improve  # noqa: PLC0415

    def watch(name: str) -> Progress:
        console.say(name)
        return Progress()

    with console.terminable():
        try:
            improved = improve(config, watch, guide_figures.tell)
        except KeyboardInterrupt:
            console.say("interrupted; the same command goes on from there")
            return 130
    console.show(_table(improved))
    chosen, last = improved.chosen, improved.rounds[-1]
    if last.reward_hacked:
        console.say(
            f"round {last.number}: the judge's reward rose and accuracy fell: judge and truth "
            "part here, so the rounds end"
        )
    guide = chosen.guide or "the judge"
    console.say(f"chosen: {guide} (round {chosen.number}), in {config.run_dir}/chosen.yaml")
    rounds = [asdict(one) for one in improved.rounds]
    line = {"rounds": rounds, "chosen": chosen.number, "reward_hacked": last.reward_hacked}
    console.say(json.dumps(line))
    return 3 if last.reward_hacked else 0


def _table(improved: Improved) -> Table:
    table = Table("round", "accuracy", "gained", "reward", "gained", "calls", "top-1", "trained on")
    for one in improved.rounds:
        table.add_row(
            f"{one.number}" + " (judge as guide)" * (one.number == 0),
            "" if one.accuracy is None else f"{one.accuracy:.4f}",
            _gain(one.accuracy_gain),
            f"{one.reward:.4f}",
            _gain(one.reward_gain),
            f"{one.calls:.1f}",
            "" if one.top1 is None else f"{one.top1:.3f}",
            f"{one.counterfactuals:,}",
        )
    return table


def _gain(gain: tuple[float, float, float] | None) -> str:
    return "" if gain is None else f"{gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}]"


if __name__ == "__main__":
    sys.exit(main())
