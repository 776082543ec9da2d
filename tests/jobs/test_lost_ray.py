"""A Ray that is lost in the middle of a run ends it in our own words, and the run can go on."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from pipeline.run import pool
from tests.pipeline.rows import keys

ROOT = Path(__file__).parents[2]

# In a process of its own: the tests in this one share a Ray.
NODE_DIES = """
import sys
import threading
import time
from pathlib import Path
import ray._private.worker
from jobs import generate

run = Path(sys.argv[1])

def kill():
    while not list((run / "parts").glob("*.parquet")):
        time.sleep(0.05)
    ray._private.worker._global_node.kill_raylet()

threading.Thread(target=kill, daemon=True).start()
sys.exit(generate.main(sys.argv[2:]))
"""


def kill_for_good(ledger):
    ray.kill(ledger, no_restart=True)
    while True:
        try:
            ray.get(ledger.placed.remote(), timeout=5)
        except ray.exceptions.ActorDiedError:
            return
        except ray.exceptions.GetTimeoutError:
            pass
        time.sleep(0.05)


@pytest.mark.parametrize("asked", ["placed", "suspects"])
def test_an_actor_of_ours_that_is_gone_ends_the_run(
    job, prompts, tmp_path, monkeypatch, capsys, asked
):
    real = getattr(pool, asked)

    def gone(ledger, *more):
        kill_for_good(ledger)
        return real(ledger, *more)

    asked_for = prompts("one", "two")
    with monkeypatch.context() as patched:
        patched.setattr(pool, asked, gone)
        assert job(asked_for) == 1
    told = capsys.readouterr().err
    assert "error: Ray was lost while it worked for this run (ActorDiedError: The actor" in told
    assert "the same command continues" in told
    assert "Traceback" not in told
    assert not (tmp_path / "run" / "_SUCCESS").exists()
    assert job(asked_for) == 0
    assert (tmp_path / "run" / "_SUCCESS").exists()


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_node_that_dies_with_its_actors_ends_the_run(prompts, tmp_path):
    run = tmp_path / "run"
    given = [
        *(f"run_dir={run}", f"prompts.path={prompts(*map(str, range(400)))}"),
        *("lm.path=scripted?delay=0.2", "store.flush_rows=1", "cluster.in_flight=4"),
        *("cluster.actors.min=1", "cluster.actors.max=1"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", NODE_DIES, str(run), *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "the same command continues" in done.stderr
    assert done.returncode == 1
    assert 0 < len(keys(run)) < 400
