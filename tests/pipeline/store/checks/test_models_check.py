"""Which models a run folder belongs to."""

import json

import pytest

from nabla_core.errors import ModelError
from nabla_core.types import Identity
from pipeline.errors import ResumeError, StoreError
from pipeline.store.checks.models_check import (
    MODELS,
    check_models,
    read_models,
    require_same,
    write_models,
)
from pipeline.store.files import Folder

LM, JUDGE = Identity("lm", "sha256:aa"), Identity("org/rm", "c0ffee")
OTHER_LM, OTHER_JUDGE = Identity("lm", "sha256:bb"), Identity("org/rm", "decade")


@pytest.fixture
def folder(tmp_path):
    return Folder(str(tmp_path))


def test_the_models_are_written_and_read_back(folder):
    assert read_models(folder) == {}
    check_models(folder, {"lm": LM, "judge": JUDGE}, rows=False)
    assert read_models(folder) == {"lm": LM, "judge": JUDGE}
    check_models(folder, {"lm": LM, "judge": JUDGE}, rows=True)


def test_every_model_that_differs_is_named_with_both_revisions(folder):
    check_models(folder, {"lm": LM, "judge": JUDGE}, rows=False)
    with pytest.raises(ResumeError) as raised:
        check_models(folder, {"lm": OTHER_LM, "judge": OTHER_JUDGE}, rows=True)
    assert str(raised.value).splitlines() == [
        f"{folder.uri} holds rows made with other models; use another run_dir or these models "
        "again",
        "  judge: org/rm c0ffee in the folder, org/rm decade now",
        "  lm: lm sha256:aa in the folder, lm sha256:bb now",
    ]
    assert read_models(folder) == {"lm": LM, "judge": JUDGE}


def test_a_folder_without_rows_takes_new_models(folder):
    check_models(folder, {"lm": LM, "judge": JUDGE}, rows=False)
    check_models(folder, {"lm": OTHER_LM}, rows=False)
    assert read_models(folder) == {"lm": OTHER_LM}


def test_a_model_that_this_process_cannot_see_stays_as_it_was(folder):
    check_models(folder, {"lm": LM, "judge": JUDGE}, rows=False)
    check_models(folder, {"lm": LM}, rows=True)
    assert read_models(folder) == {"lm": LM, "judge": JUDGE}


def test_a_renamed_folder_is_the_same_model_and_another_repository_is_not(folder):
    check_models(folder, {"lm": LM, "judge": JUDGE}, rows=False)
    check_models(folder, {"lm": Identity("renamed", LM.revision)}, rows=True)
    with pytest.raises(ResumeError, match="judge: org/rm c0ffee in the folder, fork/rm c0ffee now"):
        check_models(folder, {"judge": Identity("fork/rm", JUDGE.revision)}, rows=True)


DAMAGE = ["", "[1]", "nonsense", '{"lm": 3}', '{"lm": {"a": 1}}', "[" * 100_000]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_file_is_named_where_rows_depend_on_it_and_else_replaced(folder, content):
    folder.write(MODELS, content.encode())
    with pytest.raises(StoreError, match=rf"{MODELS} is damaged \(\w+\): .* Delete it if"):
        check_models(folder, {"lm": LM}, rows=True)
    check_models(folder, {"lm": LM}, rows=False)
    assert read_models(folder) == {"lm": LM}


def test_equal_models_are_written_once(folder, tmp_path):
    write_models(folder, {"lm": LM, "judge": JUDGE})
    inode = (tmp_path / MODELS).stat().st_ino
    write_models(folder, {"judge": JUDGE, "lm": LM})
    assert (tmp_path / MODELS).stat().st_ino == inode
    assert list(json.loads((tmp_path / MODELS).read_text())) == ["judge", "lm"]


def test_a_worker_with_other_models_than_the_run_is_refused(folder):
    run = {"lm": LM, "judge": JUDGE}
    require_same(folder, run, {"lm": LM, "tokenizer": Identity("lm", "sha256:cc")})
    with pytest.raises(ModelError, match=r"lm: lm sha256:aa in the run, lm sha256:bb on"):
        require_same(folder, run, {"lm": OTHER_LM, "judge": JUDGE})
