"""Show where a run stands: what is committed, how good it is, how long it will take.

  nabla status run_dir=runs/first

Reads the run folder of any command, on a disk or in an object store, from any machine that sees
it; needs no Ray and changes nothing.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from jobs.command import Command
from jobs.display import console, guide_figures, judge_figures, student_figures
from jobs.exit_codes import READING, ExitCode
from pipeline.printable import visible
from pipeline.training.folder import CARDS

if TYPE_CHECKING:
    from pipeline.run.status import RunStatus
    from pipeline.store.files import Folder
    from pipeline.training.progress import Progress

# Of fewer rows the accuracy is chance.
MIN_ROWS = 20


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="run_dir=PATH", help="a run folder, or its URI")


def _run(options: argparse.Namespace) -> int:
    from pipeline.run.status import reading
    from pipeline.store.run_folder import open_folder

    run_dir = options.run_dir.removeprefix("run_dir=")
    with reading(run_dir):
        _show(open_folder(run_dir), run_dir)
    return ExitCode.DONE


def _show(folder: Folder, name: str) -> None:
    """The status of a folder by its job; `name` is how the user calls it."""
    from pipeline.export.folder import is_export
    from pipeline.store.checks.owner import Owner, owner_of
    from pipeline.store.checks.version import check_version

    check_version(folder)
    owner = owner_of(folder)
    job = owner.job if owner else None
    if job == "improve":
        _show_improve(folder, name)
    elif owner == Owner("duality"):
        _show_duality(folder, name)
    elif job is not None and job in CARDS:
        _show_training(folder, name, job)
    elif owner is None and is_export(name):
        _show_export(folder, name)
    else:
        _show_rows(folder, name)


SHOW = {
    "train-guide": guide_figures.print_measurement,
    "train-judge": judge_figures.print_measurement,
    "distill": student_figures.print_measurement,
}


def _show_rows(folder: Folder, name: str) -> None:
    from pipeline.run.status import RunState, run_status
    from pipeline.store.claims import holder
    from pipeline.store.expected import INPUT
    from pipeline.store.last_error import read_error

    error = read_error(folder)
    if error is not None and not folder.exists(INPUT):
        # It ended before it knew its rows.
        driver = holder(folder)
        _headline(name, RunState.RUNNING if driver else RunState.STOPPED, driver)
    else:
        status = run_status(name)
        _headline(name, status.state, status.holder)
        _show_committed(status)
    if error is not None:
        _show_failure(error)


def _show_committed(status: RunStatus) -> None:
    committed = status.finished + status.dead
    share = committed / status.rows if status.rows else 1.0
    console.print_line(f"committed  {committed} of {status.rows} rows ({share:.1%})")
    if status.dead:
        named = status.dead_by_error.items()
        kinds = ", ".join(f"{count} {visible(kind)}" for kind, count in named)
        console.print_line(f"dead       {status.dead} ({kinds})")
    _show_means(status)
    if status.rate is not None:
        _show_rate(f"{status.rate:.1f} rows/s", status.seconds_left)
    if status.damaged:
        console.print_line(f"damaged    {status.damaged} files; a resume moves them aside")


def _show_means(status: RunStatus) -> None:
    means = status.means
    if "score" in means:
        console.print_line(f"score      {means['score']:.4f}")
    graded = status.state == "done" or status.finished >= MIN_ROWS
    for title, before, after in (
        ("reward", "base_reward", "reward"),
        *([("accuracy", "base_correct", "correct")] if graded else []),
    ):
        if after in means and before in means:
            change = means[after] - means[before]
            console.print_line(
                f"{title:<9}  {means[before]:.4f} -> {means[after]:.4f} ({change:+.4f})"
            )
        elif after in means:
            console.print_line(f"{title:<9}  {means[after]:.4f}")


def _show_training(folder: Folder, name: str, job: str) -> None:
    from pipeline.training.status import training_status

    status = training_status(folder, CARDS[job])
    _headline(name, status.state, status.holder)
    if status.progress:
        _show_progress("steps", status.progress)
    if status.measurement:
        # The figures are those of the job, for which they may be of any kind.
        SHOW[job](status.measurement)
    if status.failure:
        _show_failure(status.failure)


def _show_export(folder: Folder, name: str) -> None:
    from pipeline.export.status import export_status

    status = export_status(folder)
    _headline(name, status.state, status.holder)
    console.print_line(f"format     {status.format}")
    console.print_line(f"made of    {', '.join(status.run_folders)}")
    for key, value in status.filters.items():
        console.print_line(f"filter     {key}: {value}")
    if status.facts is None:
        return
    console.print_line(f"read       {status.facts['read']} traces")
    for reason, count in status.facts["dropped"].items():
        console.print_line(f"dropped    {count}: {reason}")
    console.print_line(f"kept       {status.facts['kept']} traces")
    for split, rows in status.facts["splits"].items():
        console.print_line(f"rows       {rows} in {split}")


def _show_improve(folder: Folder, name: str) -> None:
    from pipeline.improve.status import improve_status
    from pipeline.store.run_folder import open_folder

    status = improve_status(folder)
    planned = "" if status.rounds is None else f" of {status.rounds}"
    ended = max(len(status.figures) - 1, 0)
    console.print_line(f"{name}: {'done' if status.done else 'unfinished'}")
    console.print_line(f"rounds     {ended}{planned}")
    for figures in status.figures:
        accuracy = figures.get("accuracy")
        graded = "" if accuracy is None else f"accuracy {accuracy:.4f}  "
        chosen = "  <- chosen" if figures.get("number") == status.chosen else ""
        console.print_line(
            f"round {figures.get('number')}    {graded}reward {figures['reward']:.4f}{chosen}"
        )
    # The steps before have ended.
    for step, run_dir in list(status.steps.items())[-1:] if not status.done else []:
        console.print_line("")
        _show(open_folder(run_dir), step if not folder.local else run_dir)


def _show_duality(folder: Folder, name: str) -> None:
    from pipeline.store.files import Folder
    from pipeline.store.uris import below
    from pipeline.training.progress import read_progress

    progress = read_progress(folder)
    # A command that goes on after another one has results of that one already.
    ended = progress is None or progress.step == progress.steps
    done = ended and folder.exists("results.parquet")
    console.print_line(f"{name}: {'done' if done else 'unfinished'}")
    if progress:
        _show_progress("pieces", progress)
    responses = below(folder.uri, "checkpoints")
    if folder.exists("checkpoints/input.json"):
        console.print_line("")
        _show(Folder(responses), responses)


def _show_progress(unit: str, progress: Progress) -> None:
    share = progress.step / progress.steps if progress.steps else 1.0
    console.print_line(f"{unit:<9}  {progress.step} of {progress.steps} ({share:.1%})")
    _show_rate(f"{progress.seconds:.2f} s each", progress.seconds_left)


def _show_failure(message: str) -> None:
    console.print_line("failed     " + message.replace("\n", "\n           "))


def _headline(name: str, state: str, holder: str | None) -> None:
    console.print_line(f"{name}: {state}{f' by {holder}' if holder else ''}")


def _show_rate(rate: str, seconds_left: float | None) -> None:
    from pipeline.durations import clock

    left = f", {clock(seconds_left)} left" if seconds_left else ""
    console.print_line(f"rate       {rate}{left}")


COMMAND = Command(
    name="status",
    summary="show where a run stands",
    description=__doc__,
    add_options=_options,
    run=_run,
    exit_codes=READING,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
