"""The command line that jobs share: YAML files and overrides in, an exit code out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TypeVar

from jobs import console
from nabla_core.errors import ModelError
from pipeline.config import load, to_yaml
from pipeline.errors import LoadError, PipelineError, RunError

C = TypeVar("C")


def parser(
    job: str, doc: str | None, dry_run: str = "show what would be done"
) -> argparse.ArgumentParser:
    """`--config`, `--dry-run` and `key=value`, described by the job's own docstring; to be
    parsed intermixed."""
    made = argparse.ArgumentParser(
        prog=f"python -m jobs.{job}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--config", action="append", default=[], help="a YAML file; repeatable")
    made.add_argument("--dry-run", action="store_true", help=dry_run)
    made.add_argument("overrides", nargs="*", metavar="key=value")
    return made


def run(
    job: str,
    doc: str | None,
    config: type[C],
    work: Callable[[C], int],
    arguments: Sequence[str] | None,
    dry_run: str,
) -> int:
    """A job that is all in its config: what `work` returns, or the config shown."""
    options = parser(job, doc, dry_run).parse_intermixed_args(arguments)

    def told() -> int:
        loaded = load(config, options.config, options.overrides)
        if options.dry_run:
            console.say(to_yaml(loaded).rstrip())
            return 0
        return work(loaded)

    return exit_code(told)


def exit_code(work: Callable[[], int]) -> int:
    """What `work` returns; a failure is told on standard error and gives 1 where a run could
    not go on, 2 where config, input, models or the run folder are bad."""
    try:
        return work()
    except (PipelineError, ModelError) as error:
        console.error(error)
        return 1 if isinstance(error, RunError) and not isinstance(error, LoadError) else 2
