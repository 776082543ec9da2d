"""The Ray that a command starts for itself, in a process of its own: tests share another one."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.cluster import local_ray
from pipeline.cluster.local_ray import LOCK, PREFIX

ROOT = Path(__file__).parents[3]

# Prints what it sees of its Ray, and ends with an error.
SCRIPT = """
import json, os, time
import psutil, ray
from pipeline.cluster.connection import connected
from pipeline.cluster.config import Cluster
from tests.pipeline.run.listening import listening

@ray.remote
class Actor:
    def pid(self):
        return os.getpid()

with connected(Cluster(worker_niceness=3)):
    actor = Actor.remote()
    pid = ray.get(actor.pid.remote())
    tree = [psutil.Process(), *psutil.Process().children(recursive=True)]
    print(json.dumps({
        "niceness": psutil.Process(pid).nice() - psutil.Process().nice(),
        "actor_seen": pid in [process.pid for process in tree],
        "names": [process.name() for process in tree],
        "listening": listening([process.pid for process in tree]),
        "in_this_group": [
            process.name() for process in tree if os.getpgid(process.pid) == os.getpgid(0)
        ],
    }), flush=True)
    raise KeyError("an error of the run")
"""


@pytest.fixture
def base():
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        yield Path(folder)


def test_it_listens_on_loopback_alone_in_other_process_groups_and_leaves_no_file(base):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env={**os.environ, "RAY_TMPDIR": str(base), "RAY_worker_niceness": "7"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "KeyError: 'an error of the run'" in done.stderr
    seen = json.loads(done.stdout)
    assert seen["actor_seen"]
    assert seen["niceness"] == 3
    assert {"gcs_server", "raylet"} <= set(seen["names"])
    # The driver, gcs, raylet, actors, the agents and the metrics of each.
    assert len(seen["listening"]) >= 8
    assert {address for address, _ in seen["listening"]} == {"127.0.0.1"}
    assert len(seen["in_this_group"]) == 1
    assert list(base.iterdir()) == []


def test_folders_of_killed_commands_are_deleted_and_no_others(base):
    killed, living, starting, other = (base / name for name in ("a", "b", "c", "other"))
    killed, living, starting = (
        base / f"{PREFIX}{path.name}" for path in (killed, living, starting)
    )
    for folder in (killed, living, starting, other):
        folder.mkdir()
    for folder in (killed, living, other):
        (folder / LOCK).touch()
    handle = local_ray._locked(living)
    assert handle is not None
    local_ray._remove_abandoned(str(base))
    assert sorted(base.iterdir()) == sorted([living, starting, other])
    os.close(handle)


@pytest.mark.parametrize(
    ("environment", "used"),
    [("/tmp/t-12345678", "/tmp/t-12345678"), ("/tmp/" + "long/" * 20, "/tmp")],
)
def test_the_folder_is_where_ray_is_told_unless_its_sockets_would_not_fit(
    monkeypatch, environment, used
):
    monkeypatch.setenv("RAY_TMPDIR", environment)
    assert local_ray._base() == used
