"""A run folder may have any name, may be moved, and holds no path of this machine."""

import shutil

import pytest
import yaml

from jobs import status
from tests.jobs.test_generate import rows
from tests.pipeline.rows import keys


@pytest.mark.parametrize("home", ["", "~/"])
def test_a_folder_with_spaces_and_unicode_can_be_moved(
    job, prompts, tmp_path, monkeypatch, capsys, home
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    prompts("one", "two")
    # Ray was started in another folder. The log shows where its workers resolve a relative path.
    lm = "scripted?log=rollouts"
    given = f"{home}runs dir ü/x"
    assert job("prompts.jsonl", f"run_dir={given}", lm=lm) == 0
    run = tmp_path / "runs dir ü" / "x"
    made = rows(run)
    assert (tmp_path / "rollouts").exists()
    assert yaml.safe_load((run / "config.yaml").read_text())["run_dir"] == given
    for file in filter(lambda path: path.is_file(), run.rglob("*")):
        assert str(tmp_path).encode() not in file.read_bytes(), file
    assert str(tmp_path) not in repr(made)

    moved = tmp_path / "élsewhere" / "y z"
    moved.parent.mkdir()
    shutil.move(run, moved)
    assert status.main([f"run_dir={home}élsewhere/y z"]) == 0
    assert "committed  2 of 2 rows" in capsys.readouterr().out
    prompts("one", "two", "three")
    assert job("prompts.jsonl", f"run_dir={home}élsewhere/y z", lm=lm) == 0
    assert keys(moved) == [(f"p{n}", 0) for n in range(3)]
    assert rows(moved)[:2] == made
    assert not (moved / "quarantine").exists()


def test_the_status_of_a_run_of_no_rows_is_no_error(tmp_path, capsys):
    (tmp_path / "_VERSION").write_text("2\n")
    (tmp_path / "input.json").write_text('{"rows": 0}')
    assert status.main([f"run_dir={tmp_path}"]) == 0
    assert "committed  0 of 0 rows" in capsys.readouterr().out
