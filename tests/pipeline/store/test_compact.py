"""From parts to final files."""

import pyarrow.parquet as pq
import pytest

from pipeline.errors import DamagedError
from pipeline.store.compact import Compactor
from pipeline.store.slots import FINISHED, MISSING
from tests.pipeline.rows import NAMES, finish, inputs, item, keys, row, store_in


def test_compaction_goes_on_where_it_stopped(tmp_path):
    store = store_in(tmp_path, rows_per_file=2)
    for name in NAMES:
        store.commit([row(item(name))])
    store.compact(store.scan(inputs(NAMES), 1))
    first, second, *_ = sorted((tmp_path / "data").iterdir())
    second.unlink()
    before = first.stat().st_mtime_ns
    finish(store)
    assert first.stat().st_mtime_ns == before
    assert keys(tmp_path) == [(name, 0) for name in NAMES]


def test_a_part_damaged_after_the_scan_is_quarantined_by_the_compaction(tmp_path):
    store = store_in(tmp_path)
    store.commit([row(item("p0"))])
    store.commit([row(item("p1"))])
    slots = store.scan(inputs(["p0", "p1"]), 1)
    newest = tmp_path / store.parts()[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(DamagedError):
        store.compact(slots)
    assert list(store.scan(inputs(["p0", "p1"]), 1).in_state(MISSING)) == [1]


def test_rows_come_out_once_in_input_order_whatever_the_parts(tmp_path):
    store = store_in(tmp_path, rows_per_file=3)
    for group in (["p6", "p2"], ["p0"], ["p5", "p1", "p4"], ["p2", "p3"]):
        store.commit([row(item(name)) for name in group])
    slots = finish(store)
    assert slots.count(FINISHED) == 7
    assert keys(tmp_path) == [(name, 0) for name in NAMES]
    names = [p.name for p in sorted((tmp_path / "data").iterdir())]
    assert names == [f"train-0000{n}-of-00003.parquet" for n in range(3)]
    assert store.is_complete()
    assert store.parts() == []


def test_a_file_of_that_name_with_other_rows_is_written_again(tmp_path):
    """A compaction that died had other rows to write: a retried prompt was still dead then."""
    store = store_in(tmp_path)
    store.commit([row(item("p0")), row(item("p1"), error="E: x")])
    store.compact(store.scan(inputs(NAMES[:2]), 1))
    assert keys(tmp_path) == [("p0", 0)]
    store.commit([row(item("p1"))])
    checksums = store.compact(store.scan(inputs(NAMES[:2]), 1))
    assert keys(tmp_path) == [("p0", 0), ("p1", 0)]
    assert checksums == {
        "data/train-00000-of-00001.parquet": store.folder.checksum(
            "data/train-00000-of-00001.parquet"
        )
    }


def test_a_file_of_that_name_that_is_torn_is_written_again(tmp_path):
    store = store_in(tmp_path)
    store.commit([row(item("p0"))])
    slots = store.scan(inputs(["p0"]), 1)
    (name,) = store.compact(slots)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:-1])
    store.compact(slots)
    assert (tmp_path / name).read_bytes() == whole


def test_what_files_hold_does_not_depend_on_the_parts_nor_on_threads(tmp_path):
    made = []
    for number, groups in enumerate(([NAMES], [[name] for name in reversed(NAMES)])):
        store = store_in(tmp_path / str(number))
        for group in groups:
            store.commit([row(item(name)) for name in group])
        slots = store.scan(inputs(NAMES), 1)
        compactor = Compactor(store.folder, store.schema, slots, 3, 1 + number)
        files = compactor.run("data", list(slots.in_state(FINISHED)))
        tables = [pq.read_table(tmp_path / str(number) / file) for file in sorted(files)]
        made.append([table.drop_columns(["created_at"]) for table in tables])
    assert [len(table) for table in made[0]] == [3, 3, 1]
    for one, other in zip(*made, strict=True):
        assert one.equals(other)


def test_files_of_another_division_are_deleted(tmp_path):
    store = store_in(tmp_path)
    store.commit([row(item(name)) for name in NAMES])
    slots = store.scan(inputs(NAMES), 1)
    chosen = list(slots.in_state(FINISHED))
    Compactor(store.folder, store.schema, slots, 2, 1).run("data", chosen)
    files = Compactor(store.folder, store.schema, slots, 4, 1).run("data", chosen)
    assert [found.name for found in store.folder.files("data")] == sorted(files)
    assert len(files) == 2
