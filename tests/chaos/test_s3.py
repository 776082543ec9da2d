"""Prompts and run folder in an object store, through a network that fails."""

import json
import os

import pyarrow as pa
import pytest

from pipeline.errors import InputError, LeaseError
from pipeline.inputs.prompts import Prompts, read
from pipeline.run.status import RunState, run_status
from pipeline.store.checks.version import claim_version
from pipeline.store.files import Folder
from pipeline.store.lease import Lease
from pipeline.store.slots import FINISHED, MISSING
from pipeline.store.uris import below
from tests.chaos.s3 import unreliable
from tests.pipeline.rows import inputs, item, row, store_in
from tests.s3_server import s3_server

NAMES = [f"p{n}" for n in range(12)]


@pytest.fixture(scope="module")
def server():
    """Host and port of an S3 server with an empty bucket called `bucket`."""
    with s3_server() as address:
        yield address


def uri(address: str, name: str) -> str:
    return f"s3://bucket/{name}?scheme=http&endpoint_override={address.removeprefix('http://')}"


def final(store) -> list[str]:
    return [i for table in store.rows(["prompt_id"]) for i in table["prompt_id"].to_pylist()]


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_run_folder_in_s3(server, share):
    with unreliable(server, share, seed=1) as proxy:
        store = store_in(uri(proxy.url, f"run-{share}"), rows_per_file=5)
        claim_version(store.folder)
        lease = Lease(store.folder, 30, lambda: None)
        for name in NAMES[:8]:
            store.commit([row(item(name))])
        slots = store.scan(inputs(NAMES), 1)
        assert slots.count(MISSING) == 4
        store.commit([row(item(name)) for name in NAMES[6:]])
        store.rescan(slots)
        assert slots.count(FINISHED) == 12
        checksums = store.compact(slots)
        assert lease.is_held()
        store.mark_complete({"checksums": checksums})
        assert final(store) == NAMES
        assert store.parts() == []
        lease.release()
        store.write_expected(12)
        found = run_status(store.folder.uri)
        assert (found.state, found.finished, found.rows) == (RunState.DONE, 12, 12)
        assert found.means == pytest.approx({"base_reward": 0.3, "reward": 0.4})
        assert proxy.outcomes["pass"] > 50
        assert share == 0 or min(proxy.outcomes[k] for k in ("503", "cut", "cut after", "slow")) > 0


def test_a_finished_folder_in_s3_can_be_added_to(server):
    with unreliable(server, 0, seed=1) as proxy:
        store = store_in(uri(proxy.url, "more"), rows_per_file=5)
        for some in (NAMES[:8], NAMES):
            if store.is_complete():
                store.reopen()
            slots = store.scan(inputs(some), 1)
            missing = [some[slot] for slot in slots.in_state(MISSING)]
            store.commit([row(item(name)) for name in missing])
            store.rescan(slots)
            store.mark_complete({"checksums": store.compact(slots)})
        assert missing == NAMES[8:]
        assert final(store) == NAMES


def test_a_torn_object_is_quarantined(server):
    with unreliable(server, 0, seed=1) as proxy:
        store = store_in(uri(proxy.url, "torn"))
        store.commit([row(item("p0"))])
        (name,) = store.parts()
        store.folder.write(name, store.folder.read(name)[:-10])
        assert store.scan(inputs(["p0"]), 1).count(MISSING) == 1
        assert len(store.folder.files("quarantine")) == 2


def test_two_drivers_in_s3(server, monkeypatch):
    with unreliable(server, 0, seed=1) as proxy:
        folder = Folder(uri(proxy.url, "lease"))
        lease = Lease(folder, 1, lambda: None)
        with pytest.raises(LeaseError, match=f"is held by process {os.getpid()}"):
            Lease(folder, 1, lambda: None)
        monkeypatch.setattr("pipeline.store.claims.machine", lambda: "another")
        with pytest.raises(LeaseError, match="is held by process"):
            Lease(folder, 1, lambda: None)
        lease.release()
        Lease(folder, 1, lambda: None).release()


def test_prompts_in_s3(server):
    with unreliable(server, 0.2, seed=2) as proxy:
        folder = Folder(uri(proxy.url, "prompts"))
        folder.write("a.jsonl", b"".join(json.dumps({"prompt": n}).encode() + b"\n" for n in NAMES))
        packed = pa.compress("\n".join(["prompt", *NAMES]).encode(), codec="zstd", asbytes=True)
        folder.write("deep/a.csv.zst", packed)
        for name in ("", "a.jsonl", "[a].jsonl", "*l", "deep/*", "deep/a.csv.zst"):
            path = below(folder.uri, name) if name else folder.uri
            assert [found.prompt.text for found in read(Prompts(path=path))] == NAMES, name
        missing = below(folder.uri, "x.jsonl").replace("s3://", "s3://test:SECRET@")
        with pytest.raises(InputError, match=r"cannot read s3://\*\*\*@bucket") as refused:
            list(read(Prompts(path=missing)))
        assert "SECRET" not in str(refused.value)
