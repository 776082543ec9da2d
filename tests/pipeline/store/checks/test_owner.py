"""A run folder belongs to one job and to one kind of rows."""

import json

import pytest

from pipeline.errors import ResumeError, VersionError
from pipeline.store.checks.owner import FILE, Owner, check_owner, claim_owner
from pipeline.store.checks.version import FILE as VERSION
from pipeline.store.files import Folder

GENERATE, TUNE = Owner("generate", "traces/2"), Owner("tune", "traces/2")
IMPROVE, TRAIN = Owner("improve"), Owner("train-guide")
OWNERS = (
    *(GENERATE, TUNE, IMPROVE, TRAIN),
    Owner("counterfactuals", "counterfactuals/4"),
    Owner("duality"),
    Owner("duality", "duality-responses/1"),
)


def names(path):
    return {found.relative_to(path).as_posix() for found in path.rglob("*")}


@pytest.mark.parametrize("owner", OWNERS)
def test_a_folder_is_its_own_jobs_and_no_others(tmp_path, owner):
    folder = Folder(str(tmp_path))
    check_owner(folder, owner)
    assert names(tmp_path) == set()
    claim_owner(folder, owner)
    assert names(tmp_path) == {FILE, VERSION}
    claim_owner(folder, owner)
    before = (tmp_path / FILE).read_bytes()
    for other in OWNERS:
        if other.job == owner.job:
            continue
        for enter in (check_owner, claim_owner):
            with pytest.raises(ResumeError) as failure:
                enter(folder, other)
            for word in (str(tmp_path), f"`nabla {owner.job}`", f"`nabla {other.job}`"):
                assert word in str(failure.value)
    assert (tmp_path / FILE).read_bytes() == before


def test_rows_of_another_table_are_refused_by_both_names(tmp_path):
    folder = Folder(str(tmp_path))
    claim_owner(folder, GENERATE)
    with pytest.raises(ResumeError, match=r"rows of traces/2, .* makes rows of traces/5"):
        check_owner(folder, Owner("generate", "traces/5"))


DAMAGE = [b"", b"\xff\x00", b"[]", b"{", b'{"job": 3, "rows": null}', b"7", b"[" * 100_000]


@pytest.mark.parametrize("data", DAMAGE)
def test_a_damaged_marker_is_written_again(tmp_path, data):
    folder = Folder(str(tmp_path))
    claim_owner(folder, GENERATE)
    folder.write(FILE, data)
    claim_owner(folder, GENERATE)
    assert json.loads(folder.read(FILE)) == {"job": "generate", "rows": "traces/2"}


def test_a_folder_of_another_version_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / VERSION).write_text("1\n")
    for enter in (check_owner, claim_owner):
        with pytest.raises(VersionError):
            enter(Folder(str(tmp_path)), GENERATE)
    assert names(tmp_path) == {VERSION}


@pytest.mark.parametrize("below", ["data", "parts/x", "mine"])
def test_no_job_enters_a_folder_inside_that_of_another_one(tmp_path, below):
    claim_owner(Folder(str(tmp_path)), GENERATE)
    before = names(tmp_path)
    for owner in OWNERS:
        with pytest.raises(ResumeError, match=f"lies in {tmp_path}, .* of `nabla generate`"):
            claim_owner(Folder(str(tmp_path / below)), owner)
    assert names(tmp_path) == before


@pytest.mark.parametrize("composing", ["improve", "duality"])
def test_a_job_that_composes_others_holds_their_folders(tmp_path, composing):
    claim_owner(Folder(str(tmp_path)), Owner(composing))
    step = Folder(str(tmp_path / "round-1" / "traces"))
    claim_owner(step, GENERATE)
    with pytest.raises(ResumeError, match="`nabla generate`, and this is `nabla tune`"):
        claim_owner(step, TUNE)
