"""A part is whole or noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DamagedError
from pipeline.store.files import Folder
from pipeline.store.parts import KEY_COLUMNS, commit, marks, open_marked, open_part, read_keys
from pipeline.store.slots import MISSING
from tests.pipeline.rows import SCHEMA, inputs, item, row, store_in

SHARES = st.floats(0, 1, exclude_max=True)


def test_rows_of_a_part_are_read_back(tmp_path):
    folder = Folder(str(tmp_path))
    name = commit(folder, SCHEMA, [row(item("p0")), row(item("p1"), error="E: x")])
    found = read_keys(folder, open_part(folder, name, SCHEMA))
    assert found.column_names == list(KEY_COLUMNS)
    assert found["prompt_id"].to_pylist() == ["p0", "p1"]
    assert found["error"].to_pylist() == [None, "E: x"]


def test_the_reason_of_a_refusal_is_in_the_error(tmp_path):
    folder = Folder(str(tmp_path))
    name = commit(folder, SCHEMA, [row(item("p0"))])
    with pytest.raises(DamagedError, match=r"nabla_config differs"):
        open_marked(folder, name, {**marks(SCHEMA), b"nabla_config": b"other"})
    (tmp_path / name).write_bytes(b"torn")
    with pytest.raises(DamagedError, match="its checksum is not the one in its name"):
        open_part(folder, name, SCHEMA)
    folder.write("data/foreign.parquet", b"torn")
    with pytest.raises(DamagedError, match="no readable Parquet footer"):
        open_part(folder, "data/foreign.parquet", SCHEMA)
    (tmp_path / name).rename(tmp_path / "parts" / "forged.parquet")
    with pytest.raises(DamagedError, match="a part without a checksum in its name"):
        open_part(folder, "parts/forged.parquet", SCHEMA)


@given(SHARES)
def test_a_part_cut_anywhere_is_quarantined_and_its_rows_are_missing(tmp_path_factory, share):
    folder = tmp_path_factory.mktemp("run")
    store = store_in(folder)
    store.commit([row(item("p0"))])
    store.commit([row(item("p1")), row(item("p2"))])
    newest = folder / store.parts()[-1]
    whole = newest.read_bytes()
    newest.write_bytes(whole[: int(share * len(whole))])
    slots = store.scan(inputs(["p0", "p1", "p2"]), 1)
    assert list(slots.in_state(MISSING)) == [1, 2]
    assert not newest.exists()
    assert len(list((folder / "quarantine").glob("*.parquet"))) == 1


@given(SHARES, st.integers(0, 7))
def test_a_flipped_bit_anywhere_in_a_part_is_noticed(tmp_path_factory, share, bit):
    folder = tmp_path_factory.mktemp("run")
    store = store_in(folder)
    store.commit([row(item("p0"))])
    (name,) = store.parts()
    whole = bytearray((folder / name).read_bytes())
    whole[int(share * len(whole))] ^= 1 << bit
    (folder / name).write_bytes(whole)
    slots = store.scan(inputs(["p0"]), 1)
    assert slots.count(MISSING) == 1
    assert store.parts() == []
