"""Search better answers to 64 prompts with the embedded models on a local Ray, show a trace, and
make pages of all.

  nabla demo

Every demo gets a new folder runs/demo-N; an interrupted one is resumed first.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from jobs import generate
from jobs.command import Command
from jobs.display import console
from jobs.display.trace import print_change
from jobs.exit_codes import MAKING_ROWS, ExitCode
from pipeline.errors import ConfigError

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "embedded.yaml"
RUNS = Path("runs")
# The search shows what became of the first answer. Guided decoding, the config's method, has none.
SEARCH = "decoding.method=nabla"
NO_GUIDE = f"reward.guide=null {SEARCH} decoding.nabla.ranked.beta=null"


def _options(parser: argparse.ArgumentParser) -> None:
    """The demo has none."""


def _run(options: argparse.Namespace) -> int:
    import pyarrow.dataset

    from pipeline.report.config import ReportConfig
    from pipeline.report.job import report

    if not CONFIG.is_file():
        raise ConfigError(
            f"nabla demo needs {CONFIG}, which an installed package does not bring along: get the "
            "project and start the demo in its folder"
        )
    started = time.monotonic()
    run_dir = _folder()
    code = generate.main(["--config", str(CONFIG), SEARCH, f"run_dir={run_dir}"])
    if code != ExitCode.DONE:
        return code
    rows = pyarrow.dataset.dataset(run_dir / "data").to_table().to_pylist()
    _print_trace(rows)
    page = report(ReportConfig(run_dir=(str(run_dir),)), lambda done, total: None).page
    seconds = time.monotonic() - started
    console.print_line(f"\n{len(rows)} traces are in {run_dir}/data, made in {seconds:.0f} s.")
    console.print_line(f"All of them in a browser, without a server: open {page}\n")
    _print_next_steps(run_dir)
    return ExitCode.DONE


def _folder() -> Path:
    number = 1
    while (folder := RUNS / f"demo-{number}").exists():
        if _was_interrupted(folder):
            console.print_line(f"resuming {folder}, which was interrupted")
            return folder
        number += 1
    return folder


def _was_interrupted(folder: Path) -> bool:
    from pipeline.errors import StoreError
    from pipeline.run.status import RunState, run_status

    try:
        return run_status(str(folder)).state is RunState.STOPPED
    except StoreError:  # interrupted before its first row
        return True


def _print_trace(rows: list[dict[str, Any]]) -> None:
    from pipeline.report.pick import best_example

    row = best_example(rows)
    if row is None:
        console.print_line("no response was revised")
        return
    console.print_line(
        f"\nOne of the refined traces, {row['prompt_id']} (the replaced token in brackets):"
    )
    print_change(row, answer="last digit ")


def _print_next_steps(run_dir: Path) -> None:
    own = '"${OWN[@]}"'  # zsh, unlike bash, does not split the words of a plain variable
    console.print_line(
        f"""What to do next:
  . .venv/bin/activate
  # where the run stands
  nabla status run_dir={run_dir}
  # look at one trace, or make the pages again
  nabla show run_dir={run_dir}
  nabla report run_dir={run_dir}
  # read the traces
  python -c "import datasets; print(datasets.load_dataset('{run_dir}', split='train'))"
  # answer more prompts by guided decoding: as good, for the cost of one answer
  nabla generate --config configs/embedded.yaml --limit 512 run_dir=runs/more
Then your own prompts, lines such as {{"question": "...", "answer": "..."}}, and models:
  OWN=(lm.path=YOUR_LM reward.judge=YOUR_JUDGE)
  PROMPTS=yours.jsonl
  # look before you run
  nabla generate --config configs/own/generate.yaml {own} prompts.path=$PROMPTS {NO_GUIDE} --dry-run
  # explore, train a guide, generate with it
  nabla counterfactuals --config configs/own/counterfactuals.yaml {own} prompts.path=$PROMPTS
  nabla train-guide --config configs/own/train_guide.yaml {own} validation.prompts.path=$PROMPTS
  nabla generate --config configs/own/generate.yaml {own} prompts.path=$PROMPTS
nabla --help lists all commands; jobs/README.md is a guide for each."""
    )


COMMAND = Command(
    name="demo",
    summary="search better answers to 64 prompts with the embedded models and show a trace",
    description=__doc__,
    add_options=_options,
    run=_run,
    exit_codes=MAKING_ROWS,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
