"""A local Ray that places no actor, because another actor has all CPUs."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.rows import keys

ROOT = Path(__file__).parents[2]

# In a process of its own: the tests in this one share a Ray.
SCRIPT = """
import sys
from contextlib import nullcontext
import ray
from jobs import generate
from jobs.display.progress import Progress
from pipeline.cluster.connection import connected, shared
from pipeline.cluster.config import Cluster

@ray.remote
class Occupant:
    def here(self):
        return True

occupants = []

def occupy():
    occupant = Occupant.options(num_cpus=ray.cluster_resources()["CPU"]).remote()
    assert ray.get(occupant.here.remote())
    occupants.append(occupant)

note = Progress.note

def noted(self, text):
    note(self, text)
    if sys.argv[1] == "always" and "was restarted" in text:
        occupy()

Progress.note = noted
if sys.argv[1] == "found":
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
with shared(Cluster()) if sys.argv[1] == "in a step" else nullcontext():
    with connected(Cluster()):
        occupy()
        code = generate.main(sys.argv[2:])
    if sys.argv[1] == "in a step":
        assert ray.is_initialized()
sys.exit(code)
"""


@pytest.fixture
def occupied(prompts, tmp_path):
    """Runs generate on a local Ray whose CPUs an actor has; gives exit code and stderr."""

    def run(how):
        given = [
            *(f"run_dir={tmp_path / 'run'}", f"prompts.path={prompts('one', 'two')}"),
            *("lm.path=scripted", "cluster.scheduling_timeout_s=10"),
        ]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, how, *given],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stderr

    return run


@pytest.mark.long
def test_it_is_restarted_once_and_the_run_goes_on(occupied, tmp_path):
    code, errors = occupied("at first")
    assert "an actor needs 1 CPU and 0 GPU (cluster), and 0 CPU and 0 GPU are free" in errors
    assert errors.count("The local Ray was restarted") == 1
    assert code == 0
    assert keys(tmp_path / "run") == [("p0", 0), ("p1", 0)]


@pytest.mark.long
def test_so_it_is_in_a_step_of_a_job_whose_steps_share_one_ray(occupied, tmp_path):
    """As those of `nabla improve` do. The next step has the new Ray."""
    code, errors = occupied("in a step")
    assert errors.count("The local Ray was restarted") == 1
    assert code == 0, errors
    assert keys(tmp_path / "run") == [("p0", 0), ("p1", 0)]


@pytest.mark.long
def test_the_run_ends_where_the_next_one_places_none_either(occupied, tmp_path):
    code, errors = occupied("always")
    assert errors.count("The local Ray was restarted") == 1
    assert errors.count("Ray has placed no actor in") == 2
    assert "error: Ray has placed no actor in" in errors
    assert "Traceback" not in errors
    assert code == 1
    assert not (tmp_path / "run" / "_SUCCESS").exists()


@pytest.mark.long
def test_a_ray_that_the_command_found_is_not_restarted(occupied):
    code, errors = occupied("found")
    assert "error: Ray has placed no actor in" in errors
    assert "restarted" not in errors
    assert code == 1
