"""Run folders of another layout are refused, in one sentence that names both versions."""

import json

import pytest

from jobs import generate, status, train_guide
from pipeline.errors import VersionError
from pipeline.store.checks.version import check_version, claim_version
from pipeline.store.files import Folder
from tests.pipeline.rows import inputs, store_in

SENTENCE = "is a run folder of version 1, and this release reads and writes version 2: "


@pytest.fixture
def old(tmp_path):
    """A run folder as version 1 left it."""
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "input.json").write_text(json.dumps({"rows": 1}))
    (tmp_path / "_SUCCESS").write_text("")
    return tmp_path


def test_a_new_folder_passes_and_is_marked_once(tmp_path):
    folder = Folder(str(tmp_path))
    check_version(folder)
    assert not list(tmp_path.iterdir())
    claim_version(folder)
    marked = tmp_path / "_VERSION"
    before = marked.stat().st_mtime_ns
    assert marked.read_text() == "2\n"
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    claim_version(folder)
    assert marked.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["config.yaml", "input.json"])
def test_a_folder_of_version_1_is_known_by_its_files(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(VersionError, match=SENTENCE):
        check_version(Folder(str(tmp_path)))


def test_a_later_version_is_refused_too(tmp_path):
    (tmp_path / "_VERSION").write_text("3\n")
    with pytest.raises(VersionError, match="of version 3, and"):
        claim_version(Folder(str(tmp_path)))


def test_looking_at_an_old_folder_refuses_it(old):
    with pytest.raises(VersionError, match=SENTENCE):
        store_in(old).inspect(inputs(["p0"]), 1)


@pytest.mark.parametrize(
    ("job", "arguments"),
    [
        (status, ["{old}"]),
        (generate, ["run_dir={old}", "lm.path=scripted", "prompts.limit=1"]),
        (generate, ["--dry-run", "run_dir={old}", "lm.path=scripted", "prompts.limit=1"]),
        (train_guide, ["run_dir={new}", "data.traces=[{old}]", "lm.path=embedded"]),
    ],
    ids=["status", "resume", "dry run", "as data"],
)
def test_jobs_refuse_it_with_exit_code_2(old, tmp_path_factory, capsys, job, arguments):
    new = tmp_path_factory.mktemp("new")
    before = {path.name for path in old.iterdir()}
    assert job.main([argument.format(old=old, new=new) for argument in arguments]) == 2
    *said, line = capsys.readouterr().err.strip().splitlines()
    assert said in (
        [],
        ["before the first step: reading data and models, drawing validation samples (0:00)"],
    )
    assert line.startswith(f"error: {old} {SENTENCE}")
    assert {path.name for path in old.iterdir()} == before
