"""What a run folder holds, from the first part to the final files."""

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ResumeError
from pipeline.store.input_index import InputIndex
from pipeline.store.parts import with_config
from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store
from pipeline.store.slots import DEAD, FINISHED, MISSING
from pipeline.tables.traces import TRACES, turns_of
from tests.pipeline.rows import NAMES, SCHEMA, finish, inputs, item, keys, row, store_in


def test_datasets_loads_the_run_folder(tmp_path):
    store = store_in(tmp_path / "run", rows_per_file=2)
    for name in NAMES[:5]:
        store.commit([row(item(name))])
    finish(store, NAMES[:5])
    loaded = datasets.load_dataset(
        str(tmp_path / "run"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded["prompt_id"] == NAMES[:5]
    first = loaded[0]
    assert first["messages"] == first["prompt"] + first["completion"]
    assert turns_of(first["completion"]) == [{"role": "assistant", "content": "answer to p0"}]
    assert first["revisions"][0]["accepted"] is True


def test_dead_rows_lie_apart_and_a_finished_one_beats_them(tmp_path):
    store = store_in(tmp_path)
    store.commit([row(item("p0"), error="ValueError: no"), row(item("p1"), error="E: x")])
    store.commit([row(item("p1"))])
    store.commit([row(item("p1"), error="E: later")])
    finish(store, ["p0", "p1"])
    assert keys(tmp_path) == [("p1", 0)]
    assert keys(tmp_path, "dead_letter") == [("p0", 0)]
    dead = pq.read_table(tmp_path / "dead_letter" / "train-00000-of-00001.parquet").to_pylist()[0]
    assert (dead["error"], dead["response"], dead["completion"]) == ("ValueError: no", None, None)
    assert dead["question"] == "question p0"


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text("notes of the user"),
        lambda path: pq.write_table(pa.table({"prompt_id": ["p0"], "sample": [0]}), path),
        lambda path: pq.write_table(
            pa.Table.from_pylist([row(item("p0"))], schema=with_config(TRACES, "other")), path
        ),
        lambda path: pq.write_table(
            pa.table({"a": [1]}).replace_schema_metadata(SCHEMA.metadata), path
        ),
    ],
    ids=["no parquet", "no marks", "another config", "another schema"],
)
@pytest.mark.parametrize("where", ["parts", "data"])
def test_a_foreign_file_is_quarantined_not_read_not_lost(tmp_path, make, where):
    store = store_in(tmp_path)
    store.commit([row(item("p1"))])
    (tmp_path / where).mkdir(exist_ok=True)
    make(tmp_path / where / "foreign.parquet")
    content = (tmp_path / where / "foreign.parquet").read_bytes()
    slots = store.scan(inputs(["p0", "p1"]), 1)
    assert list(slots.in_state(MISSING)) == [0]
    assert (tmp_path / "quarantine" / f"{where}-foreign.parquet").read_bytes() == content


def test_a_final_file_damaged_after_the_end_is_noticed(tmp_path):
    store = store_in(tmp_path, rows_per_file=1)
    for name in NAMES[:2]:
        store.commit([row(item(name))])
    finish(store, NAMES[:2])
    last = sorted((tmp_path / "data").iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-100])
    assert list(store.scan(inputs(NAMES[:2]), 1).in_state(MISSING)) == [1]


def test_appended_rows_join_a_finished_folder(tmp_path):
    store = store_in(tmp_path, rows_per_file=2)
    for name in NAMES[:3]:
        store.commit([row(item(name))])
    finish(store, NAMES[:3])
    more = ["new", *NAMES[:3], "last"]
    assert store.scan(inputs(more), 1).count(MISSING) == 2
    store.reopen()
    assert not store.is_complete()
    store.commit([row(item("new")), row(item("last"))])
    finish(store, more)
    assert keys(tmp_path) == [(name, 0) for name in more]


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_reopening_that_died_half_way_loses_nothing(tmp_path, moved):
    store = store_in(tmp_path, rows_per_file=2)
    for name in NAMES[:5]:
        store.commit([row(item(name))])
    finish(store, NAMES[:5])
    (tmp_path / "_SUCCESS").unlink()
    (tmp_path / "parts").mkdir(exist_ok=True)
    for file in sorted((tmp_path / "data").iterdir())[:moved]:
        checksum = store.folder.checksum(f"data/{file.name}")
        file.rename(tmp_path / "parts" / f"{file.stem}-final-{checksum}.parquet")
    slots = store.scan(inputs(NAMES[:5]), 1)
    assert slots.count(FINISHED) == 5
    finish(store, NAMES[:5])
    assert keys(tmp_path) == [(name, 0) for name in NAMES[:5]]


def test_edited_and_removed_prompts_are_named_and_kept_apart(tmp_path):
    store = store_in(tmp_path)
    for name in NAMES[:3]:
        store.commit([row(item(name))])
    edited = item("p1", text="edited").fingerprint
    now = InputIndex([("p0", item("p0").fingerprint), ("p1", edited)])
    slots = store.scan(now, 1)
    with pytest.raises(ResumeError, match=r"edited since: p1#0; .* not in the input any more: p2#"):
        store.refuse_changes(slots)
    assert list(slots.in_state(MISSING)) == [1]
    store.commit([row(item("p1", text="edited"))])
    assert store.supersede(slots) == (
        "2 rows were copied to superseded/ in 2 files: 1 of edited prompts; "
        "1 of prompts or samples that are not in the input any more"
    )
    assert sorted(keys(tmp_path, "superseded")) == [("p1", 0), ("p2", 0)]


def test_nothing_is_refused_where_nothing_changed(tmp_path):
    store = store_in(tmp_path)
    store.commit([row(item("p0"))])
    store.refuse_changes(store.scan(inputs(["p0", "new"]), 1))


def test_unfinished_files_of_the_dead_are_swept_and_never_read(tmp_path):
    store = store_in(tmp_path)
    store.commit([row(item("p0"))])
    (tmp_path / "parts" / ".tmp-123-x.parquet").write_bytes(b"half")
    store.delete_temporary()
    assert [p.name for p in (tmp_path / "parts").iterdir()] == [store.parts()[0][6:]]


def test_a_look_changes_nothing(tmp_path):
    store = store_in(tmp_path)
    store.commit([row(item("p0")), row(item("p1"), error="E: x")])
    (tmp_path / "parts" / "foreign.parquet").write_text("x")
    slots = store.inspect(inputs(["p0", "p1", "p2"]), 1)
    assert [slots.count(state) for state in (MISSING, FINISHED, DEAD)] == [1, 1, 1]
    assert (tmp_path / "parts" / "foreign.parquet").exists()


def test_a_folder_in_memory_is_a_folder(tmp_path):
    store = RunStore(f"memory://{tmp_path.name}", SCHEMA, Store(rows_per_file=2))
    for name in NAMES[:3]:
        store.commit([row(item(name))])
    slots = finish(store, NAMES[:3])
    assert slots.count(FINISHED) == 3
    assert store.is_complete()
    ids = [i for table in store.rows(["prompt_id"]) for i in table["prompt_id"].to_pylist()]
    assert ids == NAMES[:3]


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_any_name_can_be_moved(tmp_path, monkeypatch, finished):
    monkeypatch.chdir(tmp_path)
    store = store_in("runs dir ü/x", rows_per_file=2)
    store.commit([row(item(name)) for name in NAMES[:3]])
    if finished:
        finish(store, NAMES[:3])
    moved = tmp_path / "élsewhere" / "y z"
    moved.parent.mkdir()
    (tmp_path / "runs dir ü" / "x").rename(moved)
    store = store_in("élsewhere/y z", rows_per_file=2)
    assert store.is_complete() == finished
    assert store.scan(inputs(NAMES[:4]), 1).count(FINISHED) == 3
    for file in filter(lambda path: path.is_file(), moved.rglob("*")):
        assert str(tmp_path).encode() not in file.read_bytes()
