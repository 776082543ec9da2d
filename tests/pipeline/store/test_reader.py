"""Rows of finished runs as another job's data."""

import pytest

from pipeline.errors import InputError
from pipeline.store.parts import KIND
from pipeline.store.reader import finished_rows
from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store
from pipeline.tables.counterfactuals import COUNTERFACTUALS
from pipeline.tables.traces import TRACES
from tests.pipeline.rows import SCHEMA, inputs, item, row, store_in

NAMES = ["p0", "p1", "p2"]


def finish(store: RunStore) -> None:
    for name in NAMES:
        store.commit([row(item(name))])
    store.mark_complete({"checksums": store.compact(store.scan(inputs(NAMES), 1))})


def test_rows_come_in_order_each_with_its_place(tmp_path):
    finish(store_in(tmp_path, rows_per_file=2))
    found = list(finished_rows(str(tmp_path), TRACES))
    assert [made["prompt_id"] for made, _ in found] == NAMES
    first, last = (f"{tmp_path}/data/train-0000{n}-of-00002.parquet" for n in range(2))
    assert [place for _, place in found] == [f"{first} row 1", f"{first} row 2", f"{last} row 1"]


def test_an_unfinished_run_and_another_kind_of_rows_are_refused(tmp_path):
    store = store_in(tmp_path)
    store.commit([row(item("p0"))])
    with pytest.raises(InputError, match=f"{tmp_path} is no finished run folder of traces"):
        next(finished_rows(str(tmp_path), TRACES))
    finish(store)
    with pytest.raises(InputError, match="holds traces/5, not counterfactuals"):
        next(finished_rows(str(tmp_path), COUNTERFACTUALS))


def test_rows_of_another_version_are_refused(tmp_path):
    old = SCHEMA.with_metadata({**SCHEMA.metadata, KIND: b"traces/2"})
    finish(RunStore(str(tmp_path), old, Store()))
    with pytest.raises(
        InputError, match=r"parquet holds rows of traces/2, and this release reads traces/5: "
    ):
        next(finished_rows(str(tmp_path), TRACES))
