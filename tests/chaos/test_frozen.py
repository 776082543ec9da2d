"""A driver is suspended at every step, another one takes over and finishes, the first goes on.

The other driver is in another process namespace, or on what looks like another machine where the
namespace cannot be made. It has three prompts more, so that what the first one writes late would
show. Afterwards the folder is compared byte for byte with what the second driver left.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from pipeline.run.status import RunState, run_status
from tests.chaos.servers import Server, serving

COMMIT_STEPS = ("before-write", "after-write", "before-rename", "after-rename")
WRITTEN = ("_VERSION", "input.json", "parts", "data", "dead_letter", "manifest.json", "_SUCCESS")
FIRST_RUN = [
    *(f"{step} {name}" for name in WRITTEN for step in COMMIT_STEPS),
    *("between-data-and-dead", "before-success", "after-success", "before-delete parts"),
]
# Of a second run with more prompts, over a finished folder.
REOPENED = [
    *("before-delete _SUCCESS", "reopen begins", "before-move data", "after-move data"),
    *("before-delete data", "reopening", "before-move dead_letter", "before-delete dead_letter"),
    *("before-rename parts", "before-rename data", "before-rename dead_letter"),
    *("before-rename manifest.json", "before-rename _SUCCESS", "before-delete parts"),
]
# Of a scan that finds a damaged file.
DAMAGED = ["before-move parts", "after-move parts", "before-delete parts", "before-rename quar"]


@pytest.fixture(scope="module")
def first() -> Iterator[Server]:
    """Runs the drivers that are suspended."""
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def second() -> Iterator[Server]:
    """Runs the drivers that take over."""
    namespace = ["unshare", "--pid", "--fork", "--mount-proc"]
    found = shutil.which("unshare") is not None
    if found and subprocess.run([*namespace, "true"], check=False).returncode == 0:
        with serving(before=namespace) as server:
            yield server
    else:
        with serving("--another-machine") as server:
            yield server


def snapshot(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def freeze(server: Server, run: Path, point: str, rows: int) -> int:
    """Start a driver and wait until it is suspended at this point; returns its process id."""
    token = run.parent / "token"
    token.touch()
    driver = server.start(run, rows, NABLA_FAILPOINTS=f"{point}|{token}|SIGSTOP")
    process = psutil.Process(driver)
    deadline = time.monotonic() + 60
    while process.status() != psutil.STATUS_STOPPED:
        assert process.status() != psutil.STATUS_ZOMBIE, f"no driver comes to {point}"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return driver


def takes_over(first: Server, second: Server, run: Path, point: str, *, rows: int) -> None:
    """The first driver makes so many rows, and the second one three more."""
    driver = freeze(first, run, point, rows)
    assert second.run(run, rows + 3) == 0
    finished = snapshot(run)
    os.kill(driver, signal.SIGCONT)
    assert first.code() == 2
    assert snapshot(run) == finished
    rows_found = [
        (row["prompt_id"], folder)
        for folder in ("data", "dead_letter")
        for file in sorted((run / folder).iterdir())
        for row in pq.read_table(file).to_pylist()
    ]
    names = [f"p{n}" for n in range(rows + 3) if n != 4]
    assert rows_found == [(name, "data") for name in names] + [("p4", "dead_letter")]
    assert not list((run / "parts").glob("*"))
    status = run_status(str(run))
    assert (status.state, status.finished, status.dead) == (RunState.DONE, rows + 2, 1)
    assert status.damaged == 0


@pytest.mark.parametrize("point", FIRST_RUN)
def test_a_driver_that_is_suspended_and_replaced_changes_nothing(first, second, tmp_path, point):
    takes_over(first, second, tmp_path / "run", point, rows=6)
    assert not (tmp_path / "run" / "quarantine").exists()


@pytest.mark.parametrize("point", REOPENED)
def test_nor_does_one_that_adds_rows_to_a_finished_folder(first, second, tmp_path, point):
    assert first.run(tmp_path / "run", 5) == 0
    takes_over(first, second, tmp_path / "run", point, rows=7)
    assert not (tmp_path / "run" / "quarantine").exists()


@pytest.mark.parametrize("point", DAMAGED)
def test_nor_does_one_that_moves_a_damaged_file(first, second, tmp_path, point):
    run = tmp_path / "run"
    (run / "parts").mkdir(parents=True)
    (run / "parts" / "forged.parquet").write_bytes(b"forged")
    takes_over(first, second, run, point, rows=6)
    reasons = (run / "quarantine").glob("*.reason.txt")
    assert [path.read_text() for path in reasons] == ["a part without a checksum in its name\n"]


@pytest.mark.parametrize("point", ["before-claim", "after-claim", "after-stage"])
def test_nor_does_one_that_is_suspended_while_it_takes_the_lease(first, second, tmp_path, point):
    takes_over(first, second, tmp_path / "run", point, rows=6)
