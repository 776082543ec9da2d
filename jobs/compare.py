"""Compare policies and test-time methods on the same prompts.

  nabla compare --config configs/compare_embedded.yaml

Every arm is the base config with other settings, and a run of `nabla generate` in its own folder
below `run_dir`; finished run folders join with `runs.NAME=FOLDER`. Differences to the reference are
paired by prompt. The run folder gets summary.json, comparison.md, comparison.svg and
traces.parquet. The same command again resumes, and makes what was added. The last line of the
output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from jobs.command import Command, config_options, load_config, without_run
from jobs.display import console
from jobs.display.preview import amount, print_prompt, print_warnings
from jobs.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobs.display.progress import Progress
    from pipeline.compare.config import CompareConfig
    from pipeline.compare.summary import ArmFigures, Comparison


def _options(parser: argparse.ArgumentParser) -> None:
    config_options(parser)


def _run(options: argparse.Namespace) -> int:
    from pipeline.compare.config import CompareConfig
    from pipeline.extras import require

    config = load_config(CompareConfig, options)
    for package in ("scipy", "matplotlib"):
        require(package, "compare", "nabla compare")
    if without_run(options, config, lambda: _preview(config)):
        return ExitCode.DONE
    return _compare(config)


def _preview(config: CompareConfig) -> None:
    from pipeline.compare.preview import preview

    found = preview(config)
    first = next((arm.preview for arm in found if arm.preview is not None), None)
    if first is not None:
        print_prompt(first.first, first.rendered)
    for arm in found:
        if arm.preview is None:
            console.print_line(f"{arm.name}: {arm.prompts:,} prompts of {arm.run_dir}")
            continue
        one = arm.preview
        cost = "" if one.expected is None else f", {amount(one.expected.flops)} a row"
        console.print_line(
            f"{arm.name}: {one.rows:,} rows, {one.finished:,} finished in {arm.run_dir}{cost}"
        )
        print_warnings([f"{arm.name}: {warning}" for warning in one.warnings])


def _compare(config: CompareConfig) -> int:
    from jobs.display.progress import Progress
    from pipeline.compare.job import FIGURE, MARKDOWN, compare

    def watch(name: str) -> Progress:
        console.print_line(name)
        return Progress()

    found = compare(config, watch)
    console.print_line(
        f"{config.run_dir}: {found.prompts:,} prompts, differences to {found.reference} paired by "
        "prompt"
    )
    if found.dead:
        left_out = ", ".join(f"{name} {count}" for name, count in found.dead.items())
        console.print_line(f"prompts with a dead letter are left out of all arms: {left_out}")
    console.print_table(_table(found))
    console.print_line(f"tables and figure: {config.run_dir}/{MARKDOWN}, {config.run_dir}/{FIGURE}")
    console.print_line(json.dumps({arm.name: _line(arm) for arm in found.arms}))
    return ExitCode.DONE


def _table(found: Comparison) -> Table:
    from pipeline.compare.report import shown, signed

    graded = any(arm.accuracy is not None for arm in found.arms)
    measure = "accuracy" if graded else "reward"
    table = Table("arm", measure, "difference", "p, Holm", "reward", "calls", "MFLOP")
    for arm in found.arms:
        over = arm.over_reference.get(measure)
        table.add_row(
            arm.name,
            shown(arm.accuracy if graded else arm.reward),
            "" if over is None else signed(over.difference),
            "" if over is None else f"{over.adjusted:.2g}",
            "" if arm.reward is None else f"{arm.reward.mean:.3f}",
            f"{arm.costs['paper_calls']:.1f}",
            f"{arm.costs['flops'] / 1e6:.1f}",
        )
    return table


def _line(arm: ArmFigures) -> dict[str, object]:
    over = arm.over_reference.get("accuracy") or arm.over_reference.get("reward")
    return {
        "accuracy": arm.accuracy,
        "reward": arm.reward,
        "fluency": arm.fluency,
        "difference": None if over is None else over.difference,
        "p_holm": None if over is None else over.adjusted,
        "costs": dict(arm.costs),
        "break_even": None if arm.break_even is None else asdict(arm.break_even),
    }


COMMAND = Command(
    name="compare",
    summary="compare policies and test-time methods on the same prompts",
    description=__doc__,
    add_options=_options,
    run=_run,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
