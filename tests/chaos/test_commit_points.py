"""SIGKILL at every step of the commit protocol, then the same command again.

The verdict compares the final rows with those of an undisturbed run; the pipeline's own
bookkeeping is not asked.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.run.status import run_status

ROOT = Path(__file__).parents[2]

# A worker's and the driver's side of the store, in one process and without Ray.
DRIVER = """
import sys
from pipeline.store.run_store import Store, RunStore
from pipeline.store.slots import MISSING
from pipeline.store.version import claim_version
from tests.pipeline.rows import SCHEMA, inputs, item, row

NAMES = [f"p{n}" for n in range(int(sys.argv[2]))]
store = RunStore(sys.argv[1], SCHEMA, Store(rows_per_file=2, threads=1))
wanted = inputs(NAMES)
store.sweep()
slots = store.scan(wanted, 1)
claim_version(store.folder)
store.announce(len(slots))
if store.done() and slots.count(MISSING):
    store.reopen()
    slots = store.scan(wanted, 1)
if not store.done():
    ids = list(slots.inputs)
    for slot in list(slots.in_state(MISSING)):
        name, _ = slots.key(slot, ids)
        store.commit([row(item(name), error="E: dead" if name == "p4" else None)])
    store.rescan(slots)
    store.compact(slots)
    store.succeed()
else:
    store.tidy()
"""

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


def drive(folder: Path, rows: int = 9, **environment: str) -> int:
    return subprocess.run(
        [sys.executable, "-c", DRIVER, str(folder), str(rows)],
        cwd=ROOT, env=os.environ | environment, check=False,
    ).returncode  # fmt: skip


def final(folder: Path, name: str) -> list[dict]:
    """Final rows in order, without when they were made."""
    made = [
        r for f in sorted((folder / name).glob("*.parquet")) for r in pq.read_table(f).to_pylist()
    ]
    return [{k: v for k, v in r.items() if k != "created_at"} for r in made]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert drive(folder) == 0
    return final(folder, "data"), final(folder, "dead_letter")


def made(folder: Path) -> dict[str, object]:
    """When each row was made, of whatever lies in the folder."""
    files = [f for f in folder.rglob("*.parquet") if not f.name.startswith(".tmp-")]
    return {r["prompt_id"]: r["created_at"] for f in files for r in pq.read_table(f).to_pylist()}


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_loses_doubles_and_alters_nothing(tmp_path, undisturbed, point):
    token, run = tmp_path / "token", tmp_path / "run"
    if point.startswith("reopen"):
        assert drive(run, rows=6) == 0
    token.touch()
    assert drive(run, NABLA_FAILPOINTS=f"{point}|{token}") == -signal.SIGKILL
    assert not token.exists()
    before = made(run)
    told = run_status(str(run))
    assert (told.finished + told.dead, told.damaged) == (len(before), 0)
    assert told.state == ("done" if (run / "_SUCCESS").exists() else "stopped")
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
