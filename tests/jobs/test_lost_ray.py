"""A Ray that is lost in the middle of a run ends it in our own words, and the run can go on."""

import time

import pytest
import ray

from pipeline.run import pool


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


@pytest.mark.parametrize("asked", [pytest.param("placed", marks=pytest.mark.long), "suspects"])
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
