"""The committed rows of a run folder: each once, whatever the run does meanwhile."""

import pytest

from pipeline.errors import InputError, StoreError
from pipeline.report.committed import ChangedError, committed
from pipeline.store.checks.owner import Owner, claim_owner
from pipeline.store.files import Folder
from pipeline.store.parts import commit
from tests.pipeline.export.runs import SCHEMA, trace, write_run


def keys(rows):
    tables = rows.tables(("prompt_id", "sample", "error"))
    return [(r["prompt_id"], r["sample"], r["error"]) for t in tables for r in t.to_pylist()]


@pytest.fixture(params=["disk", "object store"])
def uri(request, tmp_path):
    return str(tmp_path / "run") if request.param == "disk" else f"memory://{tmp_path}/run"


def test_each_row_is_there_once_and_a_finished_one_replaces_its_dead_letter(uri):
    write_run(uri, [trace("a"), trace("b", error="E: x"), trace("c")], finished=False)
    folder = Folder(uri)
    commit(folder, SCHEMA, [trace("a"), trace("b")])
    commit(folder, SCHEMA, [trace("d", error="E: y"), trace("d", sample=1)])
    rows = committed(uri)
    assert keys(rows) == [
        ("a", 0, None), ("c", 0, None), ("b", 0, None), ("d", 0, "E: y"), ("d", 1, None)
    ]  # fmt: skip
    assert (rows.rows, rows.finished, rows.damaged) == (5, False, 0)


def test_a_finished_run_is_read_from_its_final_files_dead_letters_included(uri):
    write_run(uri, [trace("a"), trace("b", error="E: x"), trace("c")])
    rows = committed(uri)
    assert sorted(keys(rows)) == [("a", 0, None), ("b", 0, "E: x"), ("c", 0, None)]
    assert rows.finished


def test_a_damaged_file_is_left_out_and_counted(tmp_path):
    write_run(tmp_path, [trace("a")], finished=False)
    name = commit(Folder(str(tmp_path)), SCHEMA, [trace("b")])
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)
    rows = committed(str(tmp_path))
    assert (keys(rows), rows.damaged) == ([("a", 0, None)], 1)


def test_a_lost_file_of_a_finished_run_is_counted_as_damage(tmp_path):
    write_run(tmp_path, [trace("a"), trace("b", error="E: x")])
    (lost,) = Folder(str(tmp_path)).files("dead_letter")
    Folder(str(tmp_path)).delete(lost.name)
    rows = committed(str(tmp_path))
    assert (keys(rows), rows.damaged) == ([("a", 0, None)], 1)


def test_a_file_that_was_replaced_meanwhile_is_an_error_of_its_own(tmp_path):
    write_run(tmp_path, [trace("a")], finished=False)
    rows = committed(str(tmp_path))
    Folder(str(tmp_path)).delete(rows.groups[0].file)
    with pytest.raises(ChangedError, match="was replaced while it was read"):
        keys(rows)


def test_other_folders_are_refused_by_what_they_are(tmp_path):
    with pytest.raises(InputError, match="is no run folder"):
        committed(str(tmp_path))
    claim_owner(Folder(str(tmp_path / "guide")), Owner("train-guide"))
    with pytest.raises(InputError, match="holds no traces: it is a run folder of `nabla train-g"):
        committed(str(tmp_path / "guide"))
    claim_owner(Folder(str(tmp_path / "old")), Owner("generate", "traces/2"))
    with pytest.raises(InputError, match="holds rows of traces/2, and this release reads traces/5"):
        committed(str(tmp_path / "old"))
    with pytest.raises(StoreError, match="cannot open run folder"):
        committed("nowhere://x")
