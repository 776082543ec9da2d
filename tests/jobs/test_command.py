"""The command line that all jobs share."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import command, generate
from jobs.command import Command, config_options, load_config, one_file_per_option
from jobs.exit_codes import EXIT_CODES, ExitCode
from nabla_core.errors import ModelError
from pipeline.errors import (
    ConfigError,
    InputError,
    LeaseError,
    LoadError,
    PipelineError,
    ResumeError,
    RunError,
    StoreError,
)
from pipeline.generate.config import GenerateConfig

ROOT = Path(__file__).parents[2]


def job(run) -> Command:
    """A command with a config, which does `run(options)`."""
    return Command(
        name="some-job",
        summary="does something",
        description="Does something.",
        add_options=lambda parser: config_options(parser, dry_run="do nothing"),
        run=run,
    )


@pytest.mark.parametrize(
    ("given", "separate"),
    [
        ("--config a b", "--config a --config b"),
        ("--config a b seed=1 c", "--config a --config b seed=1 c"),
        ("--config a --limit 3 b", "--config a --limit 3 b"),
        ("--config a --config b c", "--config a --config b --config c"),
        ("--config x=1.yaml y=2.yaml", "--config x=1.yaml y=2.yaml"),
        ("--config a ./x=1/b.yaml", "--config a --config ./x=1/b.yaml"),
        ("seed=1 --dry-run", "seed=1 --dry-run"),
        ("", ""),
    ],
)
def test_files_behind_config_get_an_option_each(given, separate):
    assert one_file_per_option(given.split()) == separate.split()


def test_a_setting_of_an_arm_with_spaces_in_its_name_is_no_file():
    given = ["--config", "a.yaml", "arms.best of 8.seed=1"]
    assert one_file_per_option(given) == given


def test_later_files_override_earlier_ones_and_settings_override_files(tmp_path):
    for name, text in (
        ("a.yaml", "seed: 1\nmax_attempts: 1\nsamples_per_prompt: 1\nrun_dir: runs/a"),
        ("b.yaml", "max_attempts: 2\nsamples_per_prompt: 2\nrun_dir: runs/b"),
        ("c d.yaml", "samples_per_prompt: 3\nlm: {path: embedded}"),
    ):
        (tmp_path / name).write_text(text)
    a, b, c = (str(tmp_path / name) for name in ("a.yaml", "b.yaml", "c d.yaml"))
    loaded = []

    def run(options: argparse.Namespace) -> int:
        loaded.append(load_config(GenerateConfig, options, "prompts.limit=5"))
        return 0

    for arguments in (
        ["--config", a, b, c, "run_dir=runs/first", "run_dir=runs/last"],
        ["--config", a, b, "run_dir=runs/first", "--config", c, "run_dir=runs/last"],
        ["run_dir=runs/first", "--config", a, "--config", b, f"--config={c}", "run_dir=runs/last"],
    ):
        assert job(run).main(arguments) == 0
        config = loaded.pop()
        assert (config.seed, config.max_attempts, config.samples_per_prompt) == (1, 2, 3)
        assert (config.run_dir, config.prompts.limit) == ("runs/last", 5)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("the reason"), 2),
        (InputError("the reason"), 2),
        (StoreError("the reason"), 2),
        (LeaseError("the reason"), 2),
        (ResumeError("the reason"), 2),
        (LoadError("the reason"), 2),
        (ModelError("the reason"), 2),
        (RunError("the reason"), 1),
    ],
)
def test_an_error_is_printed_and_becomes_an_exit_code(error, code, capsys):
    def run(options: argparse.Namespace) -> int:
        raise error

    assert job(run).main([]) == code
    assert capsys.readouterr() == ("", "error: the reason\n")


def test_every_error_of_the_pipeline_has_an_exit_code():
    def leaves(kind):
        return [kind, *(leaf for sub in kind.__subclasses__() for leaf in leaves(sub))]

    for kind in leaves(PipelineError):
        failed = issubclass(kind, RunError) and not issubclass(kind, LoadError)
        code = command._exit_code(kind.__new__(kind))
        assert code is (ExitCode.FAILED if failed else ExitCode.INVALID)


def test_an_error_that_nobody_raised_on_purpose_is_not_hidden():
    def run(options: argparse.Namespace) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        job(run).main([])


def test_what_a_job_returns_is_the_exit_code():
    assert job(lambda options: ExitCode.UNSOUND).main([]) == 4


def test_help_shows_the_exit_codes_of_the_command_alone(capsys):
    with pytest.raises(SystemExit) as done:
        job(lambda options: 0).main(["--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python -m jobs.some_job ")
    table = [f"  {code.value:<4} {EXIT_CODES[code]}" for code in ExitCode if code not in (3, 4, 5)]
    assert shown.rstrip().splitlines()[-5:] == ["Exit codes:", *table]


def test_an_unknown_option_is_exit_code_2(capsys):
    with pytest.raises(SystemExit) as done:
        generate.main(["--retry"])
    assert done.value.code == 2
    assert "--retry" in capsys.readouterr().err


def test_a_module_and_a_verb_show_the_same_help():
    def shown(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments, "--help"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return " ".join(done.stdout.split())

    verb = shown("-c", "from jobs.cli import main; main()", "generate")
    module = shown("-m", "jobs.generate")
    assert module.replace("python -m jobs.generate", "nabla generate") == verb
