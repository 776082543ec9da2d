"""The console script `nabla`."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nabla_core
from jobs import cli
from jobs.exit_codes import EXIT_CODES, ExitCode

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "ray", "transformers", "datasets", "pyarrow"}


def test_every_job_is_a_verb_and_every_verb_a_job():
    jobs = {
        path.stem.replace("_", "-")
        for path in (ROOT / "jobs").glob("*.py")
        if "COMMAND = Command(" in path.read_text()
    }
    assert sorted(cli.verbs()) == sorted(jobs)
    for verb in cli.verbs():
        assert cli.command(verb).name == verb
        assert f"nabla {verb}" in (cli.command(verb).description or "")


def test_help_lists_each_verb_once_with_a_line_and_ends_with_the_demo(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        assert cli.main(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        for verb in cli.verbs():
            (line,) = (line for line in lines if line.startswith(f"  {verb} "))
            assert line.endswith(cli.command(verb).summary)
        for code, meaning in EXIT_CODES.items():
            assert f"  {code.value:<4} {meaning}" in lines
        assert lines[-2:] == ["  . .venv/bin/activate", "  nabla demo"]
        assert max(map(len, lines)) <= 100


def test_the_version_is_the_packages(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"nabla {nabla_core.__version__}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "nabla_core.__version__"}
    assert project["project"]["scripts"] == {"nabla": "jobs.cli:main"}


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("genrate", "did you mean 'generate'?"),
        ("counterfactual", "did you mean 'counterfactuals'?"),
        ("train", "did you mean 'train-judge'?"),
        ("train-guid", "did you mean 'train-guide'?"),
        ("stat", "did you mean 'status'?"),
        ("xyz", "known: demo, generate, "),
    ],
)
def test_an_unknown_verb_is_refused_with_the_nearest_one(wrong, hint, capsys):
    assert cli.main([wrong, "run_dir=x"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: unknown verb {wrong!r}; ")
    assert hint in said


def test_an_option_before_the_verb_is_refused(capsys):
    assert cli.main(["--config", "a.yaml", "generate"]) == 2
    assert "options come after a verb" in capsys.readouterr().err


def test_arguments_reach_the_job_and_its_exit_code_comes_back(tmp_path, capsys):
    assert cli.main(["status", f"run_dir={tmp_path}"]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    for spelling in ("train-guide", "train_guide"):
        assert cli.main([spelling, "sed=1"]) == 2
        assert "did you mean seed?" in capsys.readouterr().err
    assert cli.main(["duality", "--dry-run", "processes=7"]) == 0
    assert "processes: 7\n" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    script = (
        "import sys\n"
        "from contextlib import suppress\n"
        "from jobs.cli import main\n"
        "with suppress(SystemExit):\n"
        f"    main({arguments!r})\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_verb_shows_the_exit_codes_that_it_can_end_with():
    rows, reading = {0, 1, 2, 3, 5, 130}, {0, 2, 130}
    expected = {
        **{verb: rows for verb in ("generate", "counterfactuals", "tune", "demo")},
        **{verb: reading for verb in ("status", "show")},
        "improve": {0, 1, 2, 3, 130},
        "duality": {0, 2, 4, 130},
    }
    for verb in cli.verbs():
        codes = cli.command(verb).exit_codes
        assert set(codes) == expected.get(verb, {0, 1, 2, 130}), verb
        assert list(codes) == sorted(codes)
        assert not any("improve:" in meaning or "duality:" in meaning for meaning in codes.values())
        # No code of the job's own that its help does not show.
        source = (ROOT / "jobs" / f"{verb.replace('-', '_')}.py").read_text()
        assert {ExitCode[name] for name in re.findall(r"ExitCode\.([A-Z]+)", source)} <= set(codes)


def test_the_guide_of_the_commands_has_every_verb_and_exit_code():
    assert list(EXIT_CODES) == list(ExitCode)
    guide = (ROOT / "jobs" / "README.md").read_text()
    for verb in cli.verbs():
        assert f"`nabla {verb}`" in guide
    for code, meaning in EXIT_CODES.items():
        assert f"| {code.value} | {meaning} |" in guide
