"""The command line that all jobs share: options in, an exit code out.

Each job file holds one `Command`. It is a verb of the console script (`nabla generate`) and,
through the same parser, a module (`python -m jobs.generate`), which is what `ray job submit`
starts on a cluster where the console script is not installed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NoReturn, TypeVar

from jobs.display import console
from jobs.exit_codes import RUNNING, ExitCode, Meanings, exit_code_table
from jobs.interrupts import interruptible
from nabla_core.errors import ModelError
from pipeline.errors import ConfigError, LoadError, PipelineError, RunError, UnknownKeyError

C = TypeVar("C")

# A key may hold spaces and more where the user gives the name of an arm; a file's path has a slash
# before an equals sign, if any.
_OVERRIDE = re.compile(r"[^/\\=]+=")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors name the nearest option, and how a setting is written."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (-\S+)", message)
        if unknown:
            name = unknown[1].partition("=")[0]
            options = [o for action in self._actions for o in action.option_strings]
            nearest = get_close_matches(name, options, n=1)
            if nearest and "." not in name:
                message += f"; did you mean {nearest[0]}?"
            elif any(action.dest == "overrides" for action in self._actions):
                message += f"; settings are written without dashes: {name.lstrip('-')}=VALUE"
        super().error(message)


@dataclass(frozen=True, kw_only=True)
class Command:
    """One verb of the command line.

    `run` takes the parsed options and returns the exit code. It imports what it needs itself:
    the settings of a job import pyarrow, a job imports Ray and torch, and `--help` waits for
    none of them. `exit_codes` are those that it can end with, and what they mean here.
    """

    name: str
    summary: str
    description: str | None
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    exit_codes: Meanings = field(default_factory=lambda: RUNNING)

    @property
    def module(self) -> str:
        """The job file's name: `jobs.train_guide` for `train-guide`."""
        return f"jobs.{self.name.replace('-', '_')}"

    def parser(self, prog: str | None = None) -> argparse.ArgumentParser:
        """The parser of this verb, however it is started."""
        parser = _Parser(
            prog=prog or f"python -m {self.module}",
            description=self.description,
            epilog=exit_code_table(self.exit_codes),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_options(parser)
        return parser

    def main(self, arguments: Sequence[str] | None = None, *, prog: str | None = None) -> int:
        """Parse `arguments` (default: those of the process), run, and return the exit code.

        Errors that the pipeline raises on purpose are printed on standard error.
        """
        words = sys.argv[1:] if arguments is None else arguments
        options = self.parser(prog).parse_intermixed_args(one_file_per_option(words))
        try:
            with interruptible():
                return self.run(options)
        except KeyboardInterrupt as interrupt:
            console.print_line(
                str(interrupt)
                or "interrupted: what is finished is kept, and the same command continues from it"
            )
            return ExitCode.INTERRUPTED
        except (PipelineError, ModelError) as error:
            console.print_error(error)
            return _exit_code(error)


DRY_RUN = "check what a run would fail at, show prompts, rows and cost; run no model"


def config_options(parser: argparse.ArgumentParser, *, dry_run: str = DRY_RUN) -> None:
    """The options of every command with a config, and its settings. `dry_run` is the help text of
    `--dry-run`."""
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FILE ...",
        help="YAML files; a later file overrides an earlier one",
    )
    parser.add_argument("--dry-run", action="store_true", help=dry_run)
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print all settings as the command would use them; run nothing",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="a setting, by its dotted key; overrides the files (all keys: configs/README.md)",
    )


def dead_option(parser: argparse.ArgumentParser) -> None:
    """`--ok-with-dead`, for commands that make rows."""
    parser.add_argument(
        "--ok-with-dead",
        action="store_true",
        help="exit code 0 where dead letters are all that is wrong",
    )


def one_file_per_option(arguments: Sequence[str]) -> list[str]:
    """`--config A B` as `--config A --config B`.

    argparse could collect several files itself, but would take the `key=value` arguments behind
    them for files too.
    """
    separate: list[str] = []
    collecting = False
    for argument in arguments:
        is_file = not argument.startswith("-") and not _OVERRIDE.match(argument)
        follows_option = bool(separate) and separate[-1] == "--config"
        if collecting and is_file and not follows_option:
            separate.append("--config")
        collecting = argument == "--config" or (collecting and (is_file or follows_option))
        separate.append(argument)
    return separate


def load_config(cls: type[C], options: argparse.Namespace, *more: str) -> C:
    """The config that the options describe; `more` are overrides by other options.

    Raises ConfigError, which names what may be meant: a nearer key, a key or a file of another
    command, or the models and prompts that a run needs.
    """
    from jobs import config_hints
    from pipeline.config import given_keys, load

    files, overrides = options.config, [*options.overrides, *more]
    if not files and not overrides:
        config_hints.check_something(cls)
    config_hints.check_words(cls, files, overrides)
    try:
        config = load(cls, files, overrides)
    except ConfigError as error:
        if others := config_hints.of_another_command(cls, files):
            raise ConfigError("\n".join(others)) from error
        keys = error.keys if isinstance(error, UnknownKeyError) else ()
        hints = config_hints.key_of_others(cls, keys)
        raise ConfigError("\n".join([str(error), *hints])) from error
    config_hints.check_enough(config, given_keys(files, overrides))
    return config


def runs_as_list(override: str) -> str:
    """`run_dir=a` and `run_dir=a,b` as lists, for commands whose key holds several runs."""
    key, _, value = override.partition("=")
    if key != "run_dir" or value.startswith("["):
        return override
    return f"run_dir=[{value}]"


def without_run(
    options: argparse.Namespace, config: Any, preview: Callable[[], None] | None = None
) -> bool:
    """Whether the options ask for no run. `--dry-run` calls `preview`, and prints the config of a
    command without one; `--print-config` prints the config."""
    if options.dry_run and preview is not None:
        preview()
    if options.print_config or (options.dry_run and preview is None):
        print_config(config)
    return bool(options.dry_run or options.print_config)


def print_config(config: Any) -> None:
    """The resolved config as YAML."""
    from pipeline.config import to_yaml

    console.print_line(to_yaml(config).rstrip())


def _exit_code(error: Exception) -> ExitCode:
    # A model that no worker can load is a mistake in the config, although a run found it.
    if isinstance(error, RunError) and not isinstance(error, LoadError):
        return ExitCode.FAILED
    return ExitCode.INVALID
