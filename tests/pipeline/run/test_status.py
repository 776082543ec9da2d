"""How far a run is, by a folder that no worker wrote."""

import pytest

from pipeline.errors import StoreError
from pipeline.run.status import RunState, recent_rate, run_status
from pipeline.store.checks.version import claim_version
from pipeline.store.lease import Lease
from tests.pipeline.rows import finish, item, row, store_in


@pytest.fixture
def store(tmp_path):
    """Two of three rows are committed, one of them a dead letter."""
    store = store_in(tmp_path)
    claim_version(store.folder)
    store.write_expected(3)
    store.commit([row(item("p0")), row(item("p1"), error="ValueError: no")])
    return store


def test_a_stopped_run_counts_what_is_committed(store, tmp_path):
    found = run_status(str(tmp_path))
    assert found.state is RunState.STOPPED
    assert found.holder is None
    assert (found.rows, found.finished, found.dead, found.damaged) == (3, 1, 1, 0)
    assert found.dead_by_error == {"ValueError": 1}


def test_a_run_is_running_as_long_as_a_driver_holds_the_lease(store, tmp_path):
    lease = Lease(store.folder, 30.0, pytest.fail)
    found = run_status(str(tmp_path))
    assert found.state is RunState.RUNNING
    assert found.holder
    lease.release()
    assert run_status(str(tmp_path)).state is RunState.STOPPED


def test_a_finished_row_replaces_the_dead_letter_of_its_key(store, tmp_path):
    store.commit([row(item("p1")), row(item("p2"))])
    finish(store, ["p0", "p1", "p2"])
    found = run_status(str(tmp_path))
    assert found.state is RunState.DONE
    assert (found.finished, found.dead, found.dead_by_error) == (3, 0, {})


def test_a_row_that_was_committed_twice_counts_once_whatever_came_first(store, tmp_path):
    store.commit([row(item("p1")), row(item("p0"), error="OSError: late")])
    store.commit([row(item("p0")), row(item("p2"), error="KeyError: no")])
    found = run_status(str(tmp_path))
    assert (found.finished, found.dead, found.dead_by_error) == (2, 1, {"KeyError": 1})


def test_a_damaged_file_counts_for_nothing(store, tmp_path):
    (part,) = (tmp_path / "parts").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:50])
    found = run_status(str(tmp_path))
    assert (found.finished, found.dead, found.damaged) == (0, 0, 1)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(StoreError, match=f"{tmp_path} is no run folder"):
        run_status(str(tmp_path))


@pytest.mark.parametrize(
    ("created", "now", "rate"),
    [
        ([], None, None),
        ([5.0], None, None),
        ([5.0, 5.0], None, None),
        ([0.0, 1.0, 2.0, 3.0], None, 1.0),
        # In any order, as files are read.
        ([3.0, 0.0, 2.0, 1.0], None, 1.0),
        # A run that goes on and makes no row gets slower.
        ([0.0, 1.0, 2.0, 3.0], 6.0, 0.5),
        # Not the time between an interruption and the resume, nor what was before.
        ([0.0, 1.0, 100_000.0, 100_002.0], None, 0.5),
        # Ten minutes are enough where there are many rows.
        ([*range(0, 3600, 60), *range(3600, 4800, 10)], None, 0.1),
        # Twenty rows where they are few.
        ([100.0 * n for n in range(40)], None, 0.01),
    ],
)
def test_the_rate_is_of_the_rows_made_last(created, now, rate):
    assert recent_rate(created, now) == pytest.approx(rate)
