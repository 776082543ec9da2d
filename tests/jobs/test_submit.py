"""`ray job submit` to a head node that the test starts on free ports."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from ray.job_submission import JobSubmissionClient

from tests.jobs.test_generate import rows

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
# On loopback, for the length of a test; the SDK in this process was imported without a token.
OPEN = {"RAY_AUTH_MODE": "disabled"}


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def wait_for(port: int) -> None:
    """Until something listens there. A command that cannot connect takes seconds to say so."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)


@pytest.fixture
def head():
    """A head node with three logical CPUs; gives the address of its dashboard once it answers."""
    port, dashboard, agent, client = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as short:
        process = subprocess.Popen(
            [
                *(BIN / "ray", "start", "--head", "--block", "--num-cpus=3"),
                *(f"--port={port}", f"--dashboard-port={dashboard}"),
                *(f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"),
                *(f"--temp-dir={short}", "--object-store-memory=134217728"),
                "--disable-usage-stats",
            ],
            env=os.environ | OPEN,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(dashboard)
            yield f"http://127.0.0.1:{dashboard}"
        finally:
            started = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            for each in started:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait()
            psutil.wait_procs(started)


def submit(head: str, name: str, *entrypoint: str) -> tuple[str, int]:
    """The end state of a job and its driver's exit code (the command's own is always 1)."""
    command = [BIN / "ray", "job", "submit", "--address", head, "--submission-id", name]
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(
            [*command, "--working-dir", ".", "--", *entrypoint],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env=os.environ | OPEN,
        )  # fmt: skip
        if "Failed to connect" not in done.stderr + done.stdout:
            break
        assert time.monotonic() < deadline, done.stderr
        time.sleep(1)
    info = JobSubmissionClient(head).get_job_info(name)
    assert info.driver_exit_code is not None, done.stdout + done.stderr
    return str(info.status.value), info.driver_exit_code


@pytest.mark.timeout(600)
def test_a_submitted_job_runs_on_several_actors_and_reports_its_exit_code(head, tmp_path):
    path, run = tmp_path / "prompts.jsonl", tmp_path / "run"
    path.write_text("".join(json.dumps({"prompt": f"question {n}"}) + "\n" for n in range(40)))
    arguments = [
        *(sys.executable, "-m", "jobs.generate", f"run_dir={run}", f"prompts.path={path}"),
        *("lm.path=scripted?delay=0.05", "cluster.actors.min=2", "cluster.actors.max=2"),
        "cluster.in_flight=4",
    ]
    with ThreadPoolExecutor(2) as both:
        good = both.submit(submit, head, "good", *arguments)
        bad = both.submit(submit, head, "bad", *arguments, "seed=x")
    assert good.result() == ("SUCCEEDED", 0)
    made = rows(run)
    assert len(made) == 40
    assert len({row["worker"] for row in made}) == 2
    assert bad.result() == ("FAILED", 2)
