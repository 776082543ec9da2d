"""SIGKILL at every step of the commit protocol, then the same command again.

The final rows are compared with those of an undisturbed run, read from the files.
"""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.run.status import run_status
from tests.chaos.servers import serving

POINTS = [
    *(f"{step} parts" for step in ("before-write", "after-write", "before-rename", "after-rename")),
    *(f"{step} data" for step in ("before-write", "after-write", "before-rename", "after-rename")),
    "between-data-and-dead",
    "before-rename dead_letter",
    "before-rename manifest.json",
    "before-success",
    "before-rename _SUCCESS",
    "after-rename _SUCCESS",
    "after-success",
    "before-delete parts",
    "reopen begins",
    "before-move data",
    "after-move data",
    "reopening",
]


@pytest.fixture(scope="module")
def drive() -> Iterator[Callable[..., int]]:
    """Runs `store_driver.drive` in a process of its own; returns the return code."""
    with serving() as server:
        yield server.run


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
    if point.startswith("reopen") or "-move " in point:
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
    assert not (run / "staging").exists()
    assert not (run / "quarantine").exists()


def test_the_undisturbed_run_is_what_it_should_be(undisturbed):
    data, dead = undisturbed
    assert [row["prompt_id"] for row in data] == [f"p{n}" for n in range(9) if n != 4]
    assert [row["error"] for row in dead] == ["E: dead"]
