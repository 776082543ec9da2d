"""`make` alone lists its targets, and the hooks use the project's own tools."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def test_make_alone_lists_every_target_with_a_line():
    done = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    listed = re.findall(r"^  make (\S+) +\S.*$", done.stdout, re.MULTILINE)
    (declared,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(declared.split())
    assert {"demo", "test", "lint", "format", "docs", "chaos"} <= set(listed)


@pytest.fixture
def stamp(tmp_path):
    """Makes a stamp of a .venv whose Python only notes what it is asked for; gives the notes and
    what is printed."""
    folder = tmp_path / ".venv"
    notes = tmp_path / "notes"
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$*" >> {notes}\necho "python $*"\n')
    python.chmod(0o755)

    def make(name):
        notes.write_text("")
        venv = os.path.relpath(folder, ROOT)
        done = subprocess.run(
            ["make", "--no-print-directory", f"VENV={venv}", f"{venv}/{name}"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        installed = re.findall(r"pip install .* -e (\S+)$", notes.read_text(), re.MULTILINE)
        return installed, done.stdout

    return make


def test_the_demo_installs_no_development_tools_and_says_before_what_it_does(stamp):
    installed, printed = stamp(".installed")
    assert installed == ["."]
    first = printed.splitlines()[0]
    assert first.startswith("Setting up ")
    for words in ("torch", "GB", "minutes"):
        assert words in first
    assert "tools" not in first
    assert stamp(".installed")[0] == []


def test_a_test_after_a_demo_and_a_demo_after_a_test_have_what_they_need(stamp):
    assert stamp(".installed")[0] == ["."]
    installed, printed = stamp(".installed-dev")
    assert installed == [".[dev]"]
    assert "tools" in printed.splitlines()[0]
    assert stamp(".installed-dev")[0] == stamp(".installed")[0] == []


def test_a_demo_after_a_test_alone_installs_nothing(stamp):
    assert stamp(".installed-dev")[0] == [".[dev]"]
    assert stamp(".installed")[0] == []


def test_the_demo_alone_does_without_development_tools():
    text = (ROOT / "Makefile").read_text()
    needs = dict(re.findall(r"^([a-z-]+): \$\(VENV\)/(\S+) ", text, re.MULTILINE))
    assert needs.pop("demo") == ".installed"
    assert needs.pop("reasoning-gym") == ".installed"
    assert set(needs.values()) == {".installed-dev"}
    tools = {"test", "test-long", "test-browser", "lint", "format", "docs", "chaos"}
    assert needs.keys() == tools


def test_the_hooks_before_a_commit_run_the_tools_of_the_project():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (repo,) = config["repos"]
    assert repo["repo"] == "local"
    for hook in repo["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/ruff ")
