"""Print one trace of a run: prompt, responses, revisions, answer and cost.

  nabla show run_dir=runs/first
  nabla show run_dir=runs/first digits/test/0/17
  nabla show run_dir=runs/first digits/test/0/17 --sample 2

Without an id it is the first trace that one revision made right, or else the first one that was
revised. The run may go on. `nabla report` makes pages of all traces.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from jobs.command import Command
from jobs.display.trace import print_trace
from jobs.exit_codes import READING, ExitCode
from pipeline.errors import ConfigError, InputError
from pipeline.printable import shown

if TYPE_CHECKING:
    from pipeline.report.committed import Committed


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="run_dir=PATH", help="a run folder, or its URI")
    parser.add_argument("id", nargs="?", help="the prompt's id, as in the column prompt_id")
    parser.add_argument(
        "--sample", type=int, default=None, metavar="N", help="which response to the prompt"
    )
    parser.add_argument(
        "--tokenizer",
        metavar="PATH",
        help="a model folder with the tokenizer of the run's LM, where the run's config does not "
        "lead to it",
    )


def _run(options: argparse.Namespace) -> int:
    from pipeline.report.committed import committed
    from pipeline.report.pick import example, find
    from pipeline.report.records import fits
    from pipeline.report.tokens import run_tokens

    run_dir = options.run_dir.removeprefix("run_dir=")
    if options.id is None and options.sample is not None:
        raise ConfigError("--sample needs the id of a prompt")
    rows = committed(run_dir)
    row = example(rows) if options.id is None else find(rows, options.id, options.sample)
    if row is None:
        raise InputError(_missing(rows, run_dir, options.id, options.sample))
    tokens = run_tokens(rows.folder, options.tokenizer)
    # Ids of another tokenizer would be shown as other texts than the model wrote.
    known = tokens if fits(row["tokenizer_fingerprint"], tokens) else None
    if options.tokenizer is not None and known is None:
        raise ConfigError(f"--tokenizer: {options.tokenizer} is not the tokenizer of this run")
    print_trace(row, known)
    return ExitCode.DONE


def _missing(rows: Committed, run_dir: str, prompt_id: str | None, sample: int | None) -> str:
    """What to say where no such trace is committed."""
    if not rows.rows:
        return f"{run_dir} holds no committed rows yet"
    if prompt_id is None:
        return f"{run_dir}: all of its rows are dead letters; give the id of a prompt"
    number = "" if sample is None else f" and sample {sample}"
    state = "" if rows.finished else ", and the run is not finished"
    return f"{run_dir} has no row of prompt {shown(prompt_id)}{number}{state}"


COMMAND = Command(
    name="show",
    summary="print one trace of a run",
    description=__doc__,
    add_options=_options,
    run=_run,
    exit_codes=READING,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
