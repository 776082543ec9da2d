"""A run makes as many requests to an object store as the formula in the README predicts."""

import pytest

from pipeline.store.slots import FINISHED
from tests.bench.pipeline.requests import requests
from tests.chaos.s3 import unreliable
from tests.chaos.test_s3 import server, uri
from tests.pipeline.rows import inputs, item, row, store_in

assert server  # the fixture


@pytest.mark.parametrize(("rows", "flush_rows", "rows_a_file"), [(60, 1, 50), (60, 4, 20)])
def test_the_requests_of_a_run_are_those_of_the_formula(server, rows, flush_rows, rows_a_file):
    names = [f"p{n:03d}" for n in range(rows)]
    with unreliable(server, 0, seed=1) as proxy:
        address = uri(proxy.url, f"count-{flush_rows}")
        store = store_in(address, rows_per_file=rows_a_file)
        slots = store.scan(inputs(names), 1)
        proxy.requests.clear()
        for start in range(0, rows, flush_rows):
            store.commit([row(item(name)) for name in names[start : start + flush_rows]])
        store.rescan(slots)
        assert slots.count(FINISHED) == rows
        assert len(store.folder.files("parts")) == requests(rows, flush_rows).parts
        proxy.requests["LIST"] -= 1  # the line above
        files = store.compact(slots)
        store.mark_complete({"checksums": files})
        sent = dict(proxy.requests)
    expected = requests(rows, flush_rows, rows_a_file)
    assert len(files) == expected.files
    assert sent["PUT"] == expected.puts
    assert sent["GET"] + sent["HEAD"] == expected.gets
    assert sent["LIST"] == expected.lists
    assert sent["POST"] == expected.deletes
