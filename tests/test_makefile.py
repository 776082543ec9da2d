"""`make` alone lists its targets, and the hooks use the project's own tools."""

import re
import subprocess
from pathlib import Path

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


def test_the_hooks_before_a_commit_run_the_tools_of_the_project():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (repo,) = config["repos"]
    assert repo["repo"] == "local"
    for hook in repo["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/ruff ")
