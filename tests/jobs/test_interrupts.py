"""Ctrl-C and SIGTERM, sent to real processes."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.cluster.local_ray import PREFIX
from tests.jobs.test_generate import rows

ROOT = Path(__file__).parents[2]
# What a run shows of its progress, in lines where there is no terminal.
PROGRESS = ("starting ", "waiting ", "running ")
GENTLE = "stopping, flushing ... (again to abort)\n"

# A command that is slow to stop, like one whose rows take long to commit.
STOPS_SLOWLY = """
import sys, time
from jobs.command import Command

def run(options):
    try:
        print("running", flush=True)
        time.sleep(60)
    finally:
        print("flushing", flush=True)
        time.sleep(60)
    return 0

command = Command(
    name="slow", summary="", description="", add_options=lambda parser: None, run=run
)
sys.exit(command.main([]))
"""


@pytest.fixture
def started(interruptible):
    """Starts a Python process in a process group of its own, which ends with the test."""
    processes = []

    def start(*arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_answered_at_once_and_the_second_aborts(started, number):
    process = started("-c", STOPS_SLOWLY)
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    # `make` and batch systems send it to the group, and then to the process.
    process.send_signal(number)
    assert process.stderr.readline() == GENTLE
    assert process.stdout.readline() == "flushing\n"
    time.sleep(1.1)
    assert process.poll() is None
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert errors.startswith("aborting; ")
    assert "the same command continues" in output
    assert process.returncode == 130


def test_a_process_that_ignores_ctrl_c_goes_on_ignoring_it(started):
    process = started(
        "-c", "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + STOPS_SLOWLY
    )
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline() == GENTLE
    process.kill()


@pytest.fixture
def ray_folder():
    """Where Ray keeps its files; the path is short, since those of sockets are bounded."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        yield Path(folder)


def test_a_signal_to_the_whole_group_loses_no_row_prints_no_line_of_ray_and_leaves_no_file(
    started, job, prompts, ray_folder, tmp_path
):
    path = prompts(*(f"question {n}" for n in range(24)))
    log, run = tmp_path / "rollouts", tmp_path / "run"
    lm = f"scripted?delay=0.3&log={log}"
    settings = ["runtime.max_batch=1", "cluster.in_flight=2", "decoding.method=sample"]
    settings += ["store.flush_rows=100", "store.flush_seconds=1000", "verify.method=none"]
    driver = started(
        *("-m", "jobs.generate", f"run_dir={run}", f"prompts.path={path}", f"lm.path={lm}"),
        *settings,
        RAY_TMPDIR=str(ray_folder),
    )
    wait_for(driver, lambda: served(log).total() >= 8)
    assert [folder.name.startswith(PREFIX) for folder in ray_folder.iterdir()] == [True]
    os.killpg(driver.pid, signal.SIGTERM)
    output, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "the same command continues" in output
    lines = [line for line in errors.splitlines() if not line.startswith(PROGRESS)]
    assert lines == ["24 rows", GENTLE.strip()]
    assert list(ray_folder.iterdir()) == []
    # What had ended waited for its group of a hundred rows.
    parts = [pq.read_table(part) for part in (run / "parts").iterdir()]
    committed = [question for part in parts for question in part["question"].to_pylist()]
    assert len(committed) >= 7

    assert job(path, *settings, lm=lm) == 0
    assert all(served(log)[question] == 1 for question in committed)
    assert sorted(row["question"] for row in rows(run)) == sorted(
        f"question {n}" for n in range(24)
    )


@pytest.mark.long
def test_a_worker_that_does_not_stop_in_time_is_ended_without_a_line_of_ray(
    started, prompts, ray_folder, tmp_path
):
    path = prompts("question", "!hang")
    run = tmp_path / "run"
    driver = started(
        *("-m", "jobs.generate", f"run_dir={run}", f"prompts.path={path}", "lm.path=scripted"),
        *("runtime.max_batch=1", "decoding.method=sample", "verify.method=none"),
        # One at a time: the first must be committed before the second hangs the engine.
        *("cluster.in_flight=1", "store.flush_rows=1", "store.flush_seconds=1"),
        RAY_TMPDIR=str(ray_folder),
    )
    wait_for(driver, lambda: [*run.glob("parts/*.parquet")])
    os.killpg(driver.pid, signal.SIGTERM)
    output, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "1 of 2 rows committed; the same command continues" in output
    lines = [line for line in errors.splitlines() if not line.startswith(PROGRESS)]
    assert lines == ["2 rows", GENTLE.strip()]
    assert list(ray_folder.iterdir()) == []


def served(log: Path) -> Counter:
    return Counter(log.read_text().splitlines() if log.exists() else [])


def wait_for(process, ready):
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
