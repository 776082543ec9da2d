"""Make a dataset folder of traces: for SFT, preferences, reward models or reinforcement learning.

  nabla export run_dir=runs/first out=runs/sft
  nabla export run_dir=runs/a,runs/b format=preference out=runs/dpo filters.min_gain=0.5

Reads run folders of `generate` and writes a folder that `datasets.load_dataset` loads; columns and
files: pipeline/export/README.md. The same command again continues an export that was interrupted.
The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from rich.table import Table

from jobs.command import Command, config_options, load_config, runs_as_list, without_run
from jobs.display import console
from jobs.exit_codes import ExitCode
from jobs.interrupts import named

if TYPE_CHECKING:
    from pipeline.export.config import ExportConfig

LOG_SECONDS = 10.0
# Characters of a row in a dry run.
SHOWN = 2000


def _options(parser: argparse.ArgumentParser) -> None:
    config_options(
        parser, dry_run="check what an export would fail at, filter the first traces; write nothing"
    )
    parser.add_argument(
        "--push",
        metavar="REPO",
        help="upload the complete folder as this dataset (ORGANISATION/NAME) of the Hugging Face "
        "hub; HF_ENDPOINT and HF_TOKEN as for huggingface_hub",
    )
    parser.add_argument(
        "--public", action="store_true", help="make a repository that --push creates a public one"
    )


def _run(options: argparse.Namespace) -> int:
    from pipeline.export.config import ExportConfig

    options.overrides = [runs_as_list(each) for each in options.overrides]
    config = load_config(ExportConfig, options)
    if without_run(options, config, lambda: _preview(config)):
        return ExitCode.DONE
    return _export(config, options.push, public=options.public)


def _preview(config: ExportConfig) -> None:
    from pipeline.export import preview

    found = preview.preview(config)
    for name, rows, complete in found.sources:
        state = "complete" if complete else "not complete, its committed rows are taken"
        console.print_line(f"from     {name}: {rows:,} traces, {state}")
    states = {
        "free": "is free",
        "interrupted": "holds this export, not complete: it would be continued",
        "complete": "holds this export, complete: nothing would be done",
    }
    console.print_line(f"out      {config.out} {states[found.out]}")
    layout = f", {config.layout}" if config.format == "sft" else ""
    student = f", for {found.student}" if found.student else ""
    console.print_line(f"format   {config.format}{layout}{student}")
    if found.rows:
        shown = json.dumps(found.rows[0], ensure_ascii=False, indent=1)
        more = " ..." if len(shown) > SHOWN else ""
        console.print_line(f"The first row:\n{console.quoted(shown[:SHOWN] + more)}\n")
    whole = found.read == found.total
    console.print_line(
        "Of all traces:" if whole else f"Of the first {preview.FIRST:,} traces of each run folder:"
    )
    console.print_table(_table({"read": found.read, "dropped": found.dropped, "kept": found.kept}))


def _export(config: ExportConfig, repo: str | None, *, public: bool) -> int:
    from pipeline.export.job import export
    from pipeline.export.push import check_local, push

    if repo is not None:
        check_local(config.out)
    with named(lambda: f"{config.out}, its whole files kept"):
        outcome = export(config, _Progress())
    facts = outcome.facts
    console.print_table(_table(facts))
    rows = ", ".join(f"{count} rows in {name}" for name, count in facts["splits"].items())
    state = "was already complete" if outcome.already_complete else "done"
    console.print_line(f"{config.out}: {state}, {rows}")
    if facts["partial"]:
        console.print_line("warning: not all run folders were complete; the card says so")
    line: dict[str, Any] = {
        "out": config.out,
        **{key: facts[key] for key in ("format", "read", "dropped", "kept", "splits")},
    }
    if repo is not None:
        line["pushed"] = push(config.out, repo, public=public)
        console.print_line(f"pushed to {line['pushed']}")
    console.print_line(json.dumps(line))
    return ExitCode.DONE


class _Progress:
    """A line every `LOG_SECONDS`."""

    def __init__(self) -> None:
        self._logged = time.monotonic()

    def __call__(self, phase: str, done: int, total: int) -> None:
        if time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            console.print_line(f"{phase}  {done}/{total}")


def _table(facts: dict[str, Any]) -> Table:
    table = Table("traces", "", box=None)
    table.columns[0].justify = "right"
    table.add_row(str(facts["read"]), "read")
    for reason, count in facts["dropped"].items():
        table.add_row(str(count), f"dropped: {reason}")
    table.add_row(str(facts["kept"]), "kept")
    return table


COMMAND = Command(
    name="export",
    summary="make a training set of traces",
    description=__doc__,
    add_options=_options,
    run=_run,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
