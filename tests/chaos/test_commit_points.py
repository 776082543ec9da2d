"""SIGKILL at every step of the commit protocol, then the same command again.

The final rows are compared with those of an undisturbed run, read from the files.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.run.status import run_status

ROOT = Path(__file__).parents[2]

POINTS = [
    *(f"{step} parts" for step in ("before-write", "after-write", "before-rename", "after-rename")),
    *(f"{step} data" for step in ("before-write", "after-write", "before-rename", "after-rename")),
    "between-data-and-dead",
    "before-rename dead_letter",
    "before-success",
    "before-rename _SUCCESS",
    "after-rename _SUCCESS",
    "after-success",
    "reopen begins",
    "reopening",
]


@pytest.fixture(scope="module")
def drive() -> Iterator[Callable[..., int]]:
    """Runs `store_driver.drive` in a process of its own; returns the return code."""
    command = [sys.executable, "-m", "tests.chaos.store_driver"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        commands, codes = server.stdin, server.stdout

        def run(folder: Path, rows: int = 9, **environment: str) -> int:
            command = {"folder": str(folder), "rows": rows, "environment": environment}
            commands.write(json.dumps(command) + "\n")
            commands.flush()
            return int(codes.readline())

        yield run
        commands.close()
        assert server.wait(timeout=30) == 0


def final(folder: Path, name: str) -> list[dict]:
    """Final rows in order, without when they were made."""
    made = [
        r for f in sorted((folder / name).glob("*.parquet")) for r in pq.read_table(f).to_pylist()
    ]
    return [{k: v for k, v in r.items() if k != "created_at"} for r in made]


@pytest.fixture(scope="module")
def undisturbed(drive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert drive(folder) == 0
    return final(folder, "data"), final(folder, "dead_letter")


def made(folder: Path) -> dict[str, object]:
    """When each row in the folder was made, by prompt id."""
    files = [f for f in folder.rglob("*.parquet") if not f.name.startswith(".tmp-")]
    return {r["prompt_id"]: r["created_at"] for f in files for r in pq.read_table(f).to_pylist()}


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_loses_duplicates_and_alters_nothing(drive, tmp_path, undisturbed, point):
    token, run = tmp_path / "token", tmp_path / "run"
    if point.startswith("reopen"):
        assert drive(run, rows=6) == 0
    token.touch()
    assert drive(run, NABLA_FAILPOINTS=f"{point}|{token}") == -signal.SIGKILL
    assert not token.exists()
    before = made(run)
    status = run_status(str(run))
    assert (status.finished + status.dead, status.damaged) == (len(before), 0)
    assert status.state == ("done" if (run / "_SUCCESS").exists() else "stopped")
    assert drive(run) == 0
    assert (final(run, "data"), final(run, "dead_letter")) == undisturbed
    after = made(run)
    assert all(after[name] == when for name, when in before.items())
    assert (run / "_SUCCESS").exists()
    assert not list(run.rglob(".tmp-*"))
    assert not (run / "quarantine").exists()


def test_the_undisturbed_run_is_what_it_should_be(undisturbed):
    data, dead = undisturbed
    assert [row["prompt_id"] for row in data] == [f"p{n}" for n in range(9) if n != 4]
    assert [row["error"] for row in dead] == ["E: dead"]
