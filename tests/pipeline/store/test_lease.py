import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pipeline.errors import LeaseError
from pipeline.store import claims
from pipeline.store.claims import holder
from pipeline.store.files import LEASE, Folder
from pipeline.store.lease import Lease, hold_lease

HOLD = """
import sys, time
from pipeline.store.files import LEASE, Folder
from pipeline.store.lease import Lease
lease = Lease(Folder(sys.argv[1]), float(sys.argv[2]), lambda: None)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def elsewhere(tmp_path):
    """A process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), "1"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_driver_is_refused_and_the_holder_named(tmp_path, elsewhere):
    with pytest.raises(LeaseError, match=f"is held by process {elsewhere.pid} on "):
        Lease(Folder(str(tmp_path)), 1, lambda: None)
    assert holder(Folder(str(tmp_path))).startswith(f"process {elsewhere.pid}")


def test_a_killed_driver_is_followed_at_once(tmp_path, elsewhere):
    elsewhere.send_signal(signal.SIGKILL)
    elsewhere.wait()
    started = time.monotonic()
    lease = Lease(Folder(str(tmp_path)), 60, lambda: None)
    assert time.monotonic() - started < 5
    assert holder(Folder(str(tmp_path))).startswith(f"process {os.getpid()}")
    lease.release()
    assert holder(Folder(str(tmp_path))) is None


def test_a_released_folder_is_free(tmp_path):
    folder = Folder(str(tmp_path))
    for _ in range(3):
        Lease(folder, 60, lambda: None).release()
    assert len(folder.files("lease")) == 1


def test_a_holder_on_another_machine_is_believed_as_long_as_it_beats(
    tmp_path, elsewhere, monkeypatch
):
    monkeypatch.setattr(claims, "machine", lambda: "another")
    with pytest.raises(LeaseError, match="is held by process"):
        Lease(Folder(str(tmp_path)), 1, lambda: None)


def test_a_silent_holder_on_another_machine_is_replaced(tmp_path, elsewhere, monkeypatch):
    elsewhere.send_signal(signal.SIGKILL)
    monkeypatch.setattr(claims, "machine", lambda: "another")
    started = time.monotonic()
    Lease(Folder(str(tmp_path)), 1, lambda: None).release()
    assert time.monotonic() - started >= 1


def test_a_holder_that_stood_still_learns_that_it_lost(tmp_path, monkeypatch):
    folder = Folder(str(tmp_path))
    lost = threading.Event()
    first = Lease(folder, 0.4, lost.set)
    assert first.is_held()
    name = folder.files("lease")[0].name
    taken = json.loads(folder.read(name)) | {"machine": "another"}
    folder.write("lease/00000002.json", json.dumps(taken).encode())
    assert lost.wait(5)
    assert not first.is_held()
    first.release()
    assert json.loads(folder.read("lease/00000002.json")) == taken


def test_what_runs_under_a_lease_is_interrupted_when_another_takes_over(tmp_path):
    folder = Folder(str(tmp_path))
    reached = []

    def work():
        with hold_lease(folder, 0.4):
            reached.append("start")
            folder.write("lease/00000002.json", folder.read("lease/00000001.json"))
            time.sleep(20)
            reached.append("end")

    with pytest.raises(LeaseError, match="was taken over by another driver"):
        work()
    assert reached == ["start"]
    with pytest.raises(KeyboardInterrupt), hold_lease(Folder(str(tmp_path / "other")), 60):
        raise KeyboardInterrupt
    assert holder(Folder(str(tmp_path / "other"))) is None


def test_a_lease_that_cannot_be_written_leaves_a_word_in_the_log(tmp_path, monkeypatch, caplog):
    folder = Folder(str(tmp_path))
    lease = Lease(folder, 0.2, lambda: None)
    full = OSError(errno.ENOSPC, "No space left on device")

    def write(self, name, data):
        raise full

    monkeypatch.setattr(Folder, "write", write)
    deadline = time.monotonic() + 10
    while not caplog.records and time.monotonic() < deadline:
        time.sleep(0.01)
    assert f"{tmp_path}: the lease was not renewed: [Errno 28] No space" in caplog.text
    lease.release()
    assert f"{tmp_path}: the lease is renamed, not released: [Errno 28] No space" in caplog.text
    assert holder(folder) is None


def test_of_two_who_claim_at_once_at_most_one_holds(tmp_path):
    for round_ in range(20):
        folder = Folder(str(tmp_path / str(round_)))
        won: list[Lease] = []
        start = threading.Barrier(4)

        def claim(folder=folder, won=won, start=start):
            start.wait()
            try:
                won.append(Lease(folder, 60, lambda: None))
            except LeaseError:
                return

        threads = [threading.Thread(target=claim) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won[0].release()


def test_in_an_object_store_whoever_sees_a_rival_gives_way(monkeypatch):
    folder = Folder("memory://lease-test")
    rival = "lease/00000001-rival.json"
    write = Folder.write

    def with_rival(self, name, data):
        write(self, name, data)
        if not self.exists(rival):
            write(self, rival, data)

    monkeypatch.setattr(Folder, "write", with_rival)
    with pytest.raises(LeaseError, match="is being taken by another driver"):
        Lease(folder, 60, lambda: None)
    assert [found.name for found in folder.files("lease")] == [rival]


def test_a_failure_of_any_kind_does_not_end_the_renewal(tmp_path, monkeypatch):
    folder = Folder(str(tmp_path))
    lease = Lease(folder, 0.2, lambda: None)
    failed = threading.Event()
    write = Folder.write

    def once(self, name, data):
        if not failed.is_set():
            failed.set()
            raise ValueError("of a library")
        write(self, name, data)

    monkeypatch.setattr(Folder, "write", once)
    assert failed.wait(30)
    files = folder.files(LEASE)
    before = folder.read(files[-1].name)
    deadline = time.monotonic() + 30
    while folder.read(files[-1].name) == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    lease.release()


def test_a_number_that_was_used_in_the_meantime_is_not_used_again(tmp_path, monkeypatch):
    """A third driver has read that claim 1 is released when two others hold the folder in turn."""
    folder = Folder(str(tmp_path))
    Lease(folder, 60, lambda: None).release()
    create = Folder.create
    holders: list[Lease] = []

    def after_two_others(self, name, data):
        if not holders:
            holders.append(None)
            Lease(folder, 60, lambda: None).release()
            holders.append(Lease(folder, 60, lambda: None))
        return create(self, name, data)

    monkeypatch.setattr(Folder, "create", after_two_others)
    with pytest.raises(LeaseError, match="is being taken by another driver"):
        Lease(folder, 60, lambda: None)
    last = holders[-1]
    assert last.number == 3
    assert last.is_held()
    assert [file.name for file in folder.files("lease")] == ["lease/00000003.json"]
    last.release()
    assert not (tmp_path / "staging").exists()


def test_a_release_on_a_full_disk_keeps_the_number(tmp_path, monkeypatch):
    folder = Folder(str(tmp_path))
    lease = Lease(folder, 60, lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        lease.release()
    assert [file.name for file in folder.files("lease")] == ["lease/00000001.released"]
    assert holder(folder) is None
    following = Lease(folder, 60, lambda: None)
    assert following.number == 2
    following.release()


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[1, 2]", b"{}", b'{"pid": 1}', b"null"])
def test_a_damaged_claim_is_that_of_a_silent_holder(tmp_path, content):
    folder = Folder(str(tmp_path))
    Lease(folder, 60, lambda: None).release()
    folder.write("lease/00000001.json", content)
    assert holder(folder) is None
    lease = Lease(folder, 0.2, lambda: None)
    assert lease.number == 2
    lease.release()


def test_other_files_beside_the_claims_are_ignored(tmp_path):
    folder = Folder(str(tmp_path))
    for name in ("notes.json", "7.json", "x0000009.json", "00000009.txt"):
        folder.write(f"lease/{name}", b"{}")
    lease = Lease(folder, 0.2, lambda: None)
    assert lease.number == 1
    assert lease.is_held()
    assert holder(folder).startswith(f"process {os.getpid()}")
    lease.release()


def test_an_error_of_a_driver_that_lost_its_lease_is_a_lease_error(tmp_path):
    folder = Folder(str(tmp_path))
    lease = Lease(folder, 60, lambda: None)
    with pytest.raises(ValueError, match="own"), lease.guarding():
        raise ValueError("own")
    folder.write("lease/00000002.json", folder.read("lease/00000001.json"))
    with pytest.raises(LeaseError, match="was taken over by another driver"), lease.guarding():
        raise ValueError("a consequence")
    with pytest.raises(LeaseError, match="was taken over by another driver"), lease.guarding():
        pass
    lease.release()
    assert [file.name for file in folder.files("lease")] == ["lease/00000002.json"]
