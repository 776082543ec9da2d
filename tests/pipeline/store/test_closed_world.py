"""Whatever is put into a run folder, its rows come out once, and what was foreign is set aside."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError, StoreError
from pipeline.run.status import RunState, run_status
from pipeline.store.checks.version import claim_version
from pipeline.store.reader import finished_rows
from pipeline.store.run_store import RunStore
from pipeline.store.slots import FINISHED, MISSING
from pipeline.tables.traces import TRACES
from tests.pipeline.rows import finish, inputs, item, keys, row, store_in

NAMES = ["p0", "p1", "p2"]
FIRST = "data/train-00000-of-00002.parquet"
UNLISTED = "a final file that is not in manifest.json"
ALTERED = "its checksum is not the one in manifest.json"


def finished(folder) -> RunStore:
    store = store_in(folder, rows_per_file=2)
    claim_version(store.folder)
    store.write_expected(len(NAMES))
    store.commit([row(item(name)) for name in NAMES])
    finish(store, NAMES)
    return store


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished folder, to be copied."""
    folder = tmp_path_factory.mktemp("whole")
    finished(folder)
    return folder


def mend(folder) -> tuple[list[str], str | None]:
    """What a driver does with a finished folder: the prompts that it makes again, and what it
    says about files that it set aside."""
    store = store_in(folder, rows_per_file=2)
    slots = store.scan(inputs(NAMES), 1)
    report = store.quarantine.report()
    missing = [NAMES[slot] for slot in slots.in_state(MISSING)]
    assert not slots.changed
    assert not slots.removed
    if store.is_complete() and not missing:
        return missing, report
    if store.is_complete():
        store.reopen()
    if missing:
        store.commit([row(item(name)) for name in missing])
    finish(store, NAMES)
    return missing, report


def check_whole(folder) -> None:
    assert keys(folder) == [(name, 0) for name in NAMES]
    status = run_status(str(folder))
    assert (status.state, status.finished, status.damaged) == (RunState.DONE, 3, 0)
    assert [made["prompt_id"] for made, _ in finished_rows(str(folder), TRACES)] == NAMES


def other_rows(folder, names=("q0", "q1", "q2")) -> None:
    """A valid final file of the same config with rows of other prompts, in the folder's data/."""
    store = store_in(folder.parent / "other")
    store.commit([row(item(name)) for name in names])
    finish(store, names)
    (made,) = (folder.parent / "other" / "data").iterdir()
    shutil.copy(made, folder / "data" / "train-00002-of-00003.parquet")


TAMPERING = {
    "a valid file more": (other_rows, [], UNLISTED),
    "a final file twice": (
        lambda run: shutil.copy(run / FIRST, run / "data" / "copy.parquet"),
        [],
        UNLISTED,
    ),
    "notes": (lambda run: (run / "data" / "notes.txt").write_text("mine"), [], UNLISTED),
    "a cut file": (
        lambda run: (run / FIRST).write_bytes((run / FIRST).read_bytes()[:-1]),
        ["p0", "p1"],
        ALTERED,
    ),
    "an empty file": (lambda run: (run / FIRST).write_bytes(b""), ["p0", "p1"], ALTERED),
    "a dead letter that is none": (
        lambda run: (
            (run / "dead_letter").mkdir(exist_ok=True),
            shutil.copy(run / FIRST, run / "dead_letter"),
        ),
        [],
        UNLISTED,
    ),
}


@pytest.mark.parametrize("kind", TAMPERING)
def test_a_finished_folder_is_a_closed_world(tmp_path, kind):
    run = tmp_path / "run"
    finished(run)
    tamper, redone, reason = TAMPERING[kind]
    tamper(run)
    status = run_status(str(run))
    assert status.finished <= status.rows
    missing, report = mend(run)
    assert missing == redone
    assert report == f"1 file was moved to quarantine/: 1 {reason}"
    assert [p.read_text().strip() for p in (run / "quarantine").glob("*.reason.txt")] == [reason]
    check_whole(run)


def test_a_file_that_is_gone_is_made_again(tmp_path):
    finished(tmp_path)
    (tmp_path / FIRST).unlink()
    with pytest.raises(InputError, match="parquet is missing; give the command that made the run"):
        next(finished_rows(str(tmp_path), TRACES))
    assert mend(tmp_path) == (["p0", "p1"], None)
    check_whole(tmp_path)


def test_another_job_reads_no_row_of_a_folder_with_a_file_more(tmp_path):
    finished(tmp_path / "run")
    other_rows(tmp_path / "run")
    with pytest.raises(InputError, match=r"of-00003.parquet is not in manifest.json; give the"):
        next(finished_rows(str(tmp_path / "run"), TRACES))


def test_a_part_without_a_checksum_in_its_name_is_quarantined(tmp_path):
    store = store_in(tmp_path)
    store.commit([row(item("p0"))])
    (part,) = (tmp_path / "parts").iterdir()
    part.rename(part.with_name("forged.parquet"))
    assert store.scan(inputs(["p0"]), 1).count(MISSING) == 1
    assert store.quarantine.report() == (
        "1 file was moved to quarantine/: 1 a part without a checksum in its name"
    )
    assert store.quarantine.report() is None


NESTED = b"[" * 100_000
DAMAGE = [
    b"",
    b"\xff\xfe\x00",
    b"[1, 2]",
    b"{",
    b"null",
    b'{"checksums": [1]}',
    b'{"checksums": 3}',
    NESTED,
]


@pytest.mark.parametrize("name", ["manifest.json", "_SUCCESS"])
@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_manifest_or_marker_is_written_again(tmp_path, name, content):
    finished(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert run_status(str(tmp_path)).state is RunState.STOPPED
    with pytest.raises(InputError, match=r"manifest.json or _SUCCESS is damaged; give the command"):
        next(finished_rows(str(tmp_path), TRACES))
    assert mend(tmp_path) == ([], None)
    check_whole(tmp_path)


def test_a_manifest_that_was_edited_is_written_again(tmp_path):
    finished(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["checksums"][FIRST]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert mend(tmp_path) == ([], None)
    check_whole(tmp_path)


# Mostly in the footer, which no checksum of Parquet covers.
@given(st.floats(0, 1, exclude_max=True) | st.floats(0.5, 1, exclude_max=True), st.integers(0, 7))
def test_a_flipped_bit_in_a_final_file_without_a_marker_is_noticed(
    tmp_path_factory, whole, share, bit
):
    """Also where it makes a text in the footer one that is no UTF-8."""
    run = tmp_path_factory.mktemp("base") / "run"
    shutil.copytree(whole, run)
    (run / "_SUCCESS").unlink()
    flipped = bytearray((run / FIRST).read_bytes())
    flipped[int(share * len(flipped))] ^= 1 << bit
    (run / FIRST).write_bytes(flipped)
    run_status(str(run))
    store = store_in(run, rows_per_file=2)
    slots = store.scan(inputs(NAMES), 1)
    assert not slots.removed
    assert not slots.changed
    assert slots.count(FINISHED) in (1, 3)


@pytest.mark.parametrize("content", [*DAMAGE, b'{"rows": "x"}'])
def test_a_damaged_input_file_is_one_error_of_the_status_and_written_again(tmp_path, content):
    store = finished(tmp_path)
    (tmp_path / "input.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"input.json is damaged"):
        run_status(str(tmp_path))
    store.write_expected(3)
    check_whole(tmp_path)
