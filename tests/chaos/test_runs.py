"""Whole runs with a full disk, with a straggler, and with one prompt among many that kills its
worker."""

import subprocess
from collections import Counter
from itertools import pairwise

import pyarrow.parquet as pq
import pytest

from pipeline.cluster.config import Actors, Cluster
from pipeline.run.pool import task_size
from tests.chaos.comparison import final_rows


@pytest.fixture
def disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
    if subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_ends_the_run_and_more_room_finishes_it(job, prompts, disk, capsys):
    path, run = prompts(*(f"question {n}" for n in range(60))), disk / "run"
    settings = [f"run_dir={run}", "cluster.in_flight=4", "store.lease_seconds=1"]
    assert job(path, *settings) == 1
    errors = capsys.readouterr().err
    assert f"cannot commit rows to {run}: OSError: [Errno 28] No space left on device" in errors
    parts = {part: pq.read_table(part).to_pylist() for part in (run / "parts").iterdir()}
    assert 5 < len(parts) < 60
    assert all(part.suffix == ".parquet" for part in parts)
    assert job(path, *settings) == 1
    subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
    assert job(path, *settings) == 0
    assert not (run / "quarantine").exists()
    rows = final_rows(run)
    assert [row["prompt_id"] for row in rows] == [f"p{n}" for n in range(60)]
    after = {row["prompt_id"]: row["created_at"] for row in rows}
    before = {row["prompt_id"]: row["created_at"] for part in parts.values() for row in part}
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(("in_flight", "actors", "a_task"), [(4, 2, 1), (32, 1, 4)])
def test_a_straggler_delays_no_other_prompt(job, prompts, tmp_path, in_flight, actors, a_task):
    # The first prompt ends once all others have been served. If one of them waited for it, or
    # for its task or its batch, the run would never end.
    path = prompts("!after63", *(f"question {n}" for n in range(63)))
    assert task_size(64, Cluster(actors=Actors(actors, actors), in_flight=in_flight)) == a_task
    settings = ["decoding.method=sample", f"cluster.in_flight={in_flight}", "runtime.max_batch=4"]
    lm = f"scripted?delay=0.1&log={tmp_path / 'log'}"
    assert job(path, *settings, lm=lm, actors=actors) == 0
    rows = sorted(final_rows(tmp_path / "run"), key=lambda row: row["created_at"])
    assert len(rows) == 64
    assert len({row["worker"] for row in rows}) == actors
    # Served rows are committed at once. At most one batch of each actor comes after the first.
    place = next(n for n, row in enumerate(rows) if row["prompt_id"] == "p0")
    assert place >= 63 - 4 * actors


def test_one_killer_among_many_in_flight_costs_no_neighbour_an_attempt(job, prompts, tmp_path):
    texts = [f"question {n}" for n in range(40)]
    texts[17] = "!kill"
    log = tmp_path / "log"
    settings = ["decoding.method=sample", "max_attempts=2", "runtime.max_batch=8"]
    assert job(prompts(*texts), *settings, lm=f"scripted?delay=0.2&log={log}") == 3
    rows = final_rows(tmp_path / "run")
    (dead,) = (row for row in rows if row["error"] is not None)
    assert (dead["prompt_id"], dead["attempt"]) == ("p17", 2)
    assert all(row["attempt"] == 1 for row in rows if row is not dead)
    assert [row["prompt_id"] for row in rows if row is not dead] == [
        f"p{n}" for n in range(40) if n != 17
    ]
    # A neighbour is served at most three times: in flight at the first death of a worker, in a
    # group of suspects at the second, then alone.
    served = Counter(log.read_text().splitlines())
    assert set(served) == set(texts) - {"!kill"}
    assert max(served.values()) <= 3


def test_rows_are_in_the_order_of_the_input_whatever_was_slow(job, prompts, tmp_path):
    path = prompts(*("!slow" if n % 7 == 3 else f"question {n}" for n in range(20)))
    assert job(path, "decoding.method=sample", lm="scripted?delay=0.01") == 0
    places = [int(row["prompt_id"][1:]) for row in final_rows(tmp_path / "run")]
    assert all(a < b for a, b in pairwise(places))
