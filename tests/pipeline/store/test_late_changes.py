"""Changes that arrive after another driver took over and finished, in an object store.

There nothing prevents them. A change is made late by letting the other driver run just before it.
"""

import pickle
import uuid
from collections.abc import Callable

import pytest

from pipeline.errors import LeaseError, StoreError
from pipeline.store import claims, compact, run_store
from pipeline.store.files import ChecksumWriter, Folder
from pipeline.store.final import published
from pipeline.store.lease import Lease
from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store
from pipeline.store.slots import FINISHED, MISSING
from tests.pipeline.rows import SCHEMA, inputs, item, row

OLD, NEW = ["p0", "p1"], ["p0", "p1", "p2"]


def drive(lease: Lease, names: list[str]) -> None:
    store = RunStore(lease.folder.uri, SCHEMA, Store(rows_per_file=1, threads=1))
    store.hold(lease)
    slots = store.scan(inputs(names), 1)
    if store.is_complete() and slots.count(MISSING):
        store.reopen()
        slots = store.scan(inputs(names), 1)
    for slot in list(slots.in_state(MISSING)):
        store.commit([row(item(names[slot]))])
    store.rescan(slots)
    assert slots.count(FINISHED) == len(names)
    if not store.is_complete():
        store.mark_complete({"checksums": store.compact(slots)})
    assert not store.quarantine.report()


def final(uri: str) -> list[str]:
    store = RunStore(uri, SCHEMA, Store())
    return [i for table in store.rows(["prompt_id"]) for i in table["prompt_id"].to_pylist()]


@pytest.fixture
def late(monkeypatch):
    """Lets a driver be replaced just before it calls a function, and returns the folder."""

    def run(owner: object, name: str) -> str:
        uri = f"memory://{uuid.uuid4().hex}"
        old = Lease(Folder(uri), 0.2, lambda: None)
        original: Callable[..., object] = getattr(owner, name)

        def replaced_before(*arguments, **named):
            monkeypatch.setattr(owner, name, original)
            # The old driver is suspended: it renews nothing.
            old._stop.set()
            old._thread.join()
            with monkeypatch.context() as patch:
                patch.setattr(claims, "machine", lambda: "another")
                new = Lease(Folder(uri), 0.2, lambda: None)
            drive(new, NEW)
            new.release()
            assert final(uri) == NEW
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, replaced_before)
        with pytest.raises(LeaseError, match="was taken over by another driver"), old.guarding():
            drive(old, OLD)
        old.release()
        return uri

    return run


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (compact, "digest_of_rows"),  # before a final file is written
        (ChecksumWriter, "checksum"),  # before it appears
        (RunStore, "compact"),
        (RunStore, "mark_complete"),
        (RunStore, "delete_parts"),
        (RunStore, "rescan"),
    ],
)
def test_a_late_change_leaves_the_folder_as_it_is(late, owner, name):
    uri = late(owner, name)
    assert final(uri) == NEW
    sums = published(Folder(uri))
    assert sum(found.startswith("data/") for found in sums) == 3


@pytest.mark.parametrize("name", ["write_manifest", "write_marker"])
def test_a_late_manifest_or_marker_is_repaired_without_losing_a_row(late, name):
    uri = late(run_store, name)
    assert published(Folder(uri)) is None
    lease = Lease(Folder(uri), 60, lambda: None)
    drive(lease, NEW)
    lease.release()
    assert final(uri) == NEW
    assert published(Folder(uri)) is not None


def test_workers_of_a_driver_that_was_replaced_commit_nothing(tmp_path, monkeypatch):
    old = Lease(Folder(str(tmp_path)), 0.2, lambda: None)
    store = RunStore(str(tmp_path), SCHEMA, Store())
    store.hold(old)
    worker = pickle.loads(pickle.dumps(store))
    worker.commit([row(item("p0"))])
    old._stop.set()
    old._thread.join()
    monkeypatch.setattr(claims, "machine", lambda: "another")
    new = Lease(Folder(str(tmp_path)), 0.2, lambda: None)
    with pytest.raises(LeaseError, match="was taken over by another driver"):
        worker.commit([row(item("p1"))])
    assert len(worker.parts()) == 1
    old.release()
    new.release()


def test_a_worker_that_does_not_see_the_files_of_its_driver_says_so(tmp_path):
    store = RunStore(str(tmp_path / "run"), SCHEMA, Store())
    lease = Lease(store.folder, 60, lambda: None)
    store.hold(lease)
    (tmp_path / "run").rename(tmp_path / "the run folder of another node")
    with pytest.raises(StoreError, match="does every node see the driver's files"):
        store.commit([row(item("p0"))])
    lease.release()
