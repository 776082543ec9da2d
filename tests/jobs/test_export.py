"""`nabla export` as a command: its table, its last line, several folders, S3, and the hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

from jobs import cli
from nabla_core.embedded import weights
from pipeline.export import preview
from pipeline.export.folder import read_export
from pipeline.store.files import Folder
from tests.jobs.test_dry_run import in_order
from tests.pipeline.export.runs import rows_of, trace, write_run
from tests.pipeline.export.servers import hub, s3_bucket

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    return [
        write_run(folder / name, [trace(f"{name}{n}", question=f"{n}+{k}=") for n in range(4)])
        for k, name in enumerate("ab")
    ]


def test_the_command_shows_what_was_dropped_and_ends_with_one_json_object(runs, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["export", f"run_dir={runs[0]},{runs[1]}", f"out={out}", "filters.top_fraction=0.5"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    table = [line.split(maxsplit=1) for line in map(str.strip, printed[:-1])]
    assert table[1:4] == [
        ["8", "read"],
        ["4", "dropped: reward below the top fraction"],
        ["4", "kept"],
    ]
    assert f"{out}: done, 4 rows in train" in printed
    assert json.loads(printed[-1]) == {
        "out": str(out),
        "format": "sft",
        "read": 8,
        "dropped": {"reward below the top fraction": 4},
        "kept": 4,
        "splits": {"train": 4},
    }
    assert cli.main(arguments) == 0
    assert f"{out}: was already complete, 4 rows in train" in capsys.readouterr().out


def test_errors_are_one_line_and_exit_with_2(runs, tmp_path, capsys):
    out = tmp_path / "out"
    for arguments, words in (
        ([f"run_dir={tmp_path}/none"], "is no run folder"),
        ([f"run_dir={runs[0]}", "format=sfft"], "format"),
        ([f"run_dir={runs[0]}", "filters.top_fraction=2"], "filters.top_fraction must be above 0"),
        ([], "run_dir"),
    ):
        assert cli.main(["export", f"out={out}", *arguments]) == 2
        printed = capsys.readouterr()
        assert words in printed.err
        assert "Traceback" not in printed.err
    assert not out.exists()


def test_a_dry_run_filters_the_first_traces_and_writes_nothing(runs, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    arguments = ["export", f"run_dir={runs[0]},{runs[1]}", f"out={out}", "filters.top_fraction=0.5"]
    monkeypatch.setattr(preview, "FIRST", 3)
    assert cli.main([*arguments, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    in_order(
        shown,
        "from     a: 4 traces, complete\n",
        "from     b: 4 traces, complete\n",
        f"out      {out} is free\n",
        "format   sft, prompt_completion, for embedded\n",
        '  |    "content": "0+0="',
        "Of the first 3 traces of each run folder:\n",
        "6  read",
        "3  dropped: reward below the top fraction",
        "3  kept",
    )
    assert not out.exists()
    assert cli.main(arguments) == 0
    monkeypatch.undo()
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert cli.main([*arguments, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    in_order(shown, "complete: nothing would be done", "Of all traces:\n", "8  read", "4  kept")
    (out / "_SUCCESS").unlink()
    assert cli.main([*arguments, "--dry-run"]) == 0
    assert "not complete: it would be continued" in capsys.readouterr().out
    del before[out / "_SUCCESS"]
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


def test_a_dry_run_fails_where_the_export_would(runs, tmp_path, capsys):
    lm = tmp_path / "lm"
    shutil.copytree(weights.folder("lm"), lm)
    (lm / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    unfinished = write_run(tmp_path / "unfinished", [trace("p0")], finished=False)
    for words, message in (
        ([f"run_dir={tmp_path}/none"], "none is no run folder"),
        ([f"run_dir={unfinished}"], f"{unfinished} is not complete"),
        ([f"tokenizer.path={lm}"], "would not learn to stop"),
        ([f"out={tmp_path}/taken"], "holds something else (thesis.txt)"),
        (["filters.min_reward=9"], "nothing is left of 4 traces:\n    4 reward below min_reward"),
        ([f"filters.decontamination.benchmarks=[{tmp_path}/gsm.jsonl]"], "gsm.jsonl"),
    ):
        asked = [f"run_dir={runs[0]}", f"out={tmp_path}/out", *words]
        assert cli.main(["export", *asked, "--dry-run"]) == 2, message
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bucket_in_and_a_bucket_out(runs, tmp_path, capsys):
    with s3_bucket() as query:
        remote = f"s3://bucket/run?{query}"
        target = Folder(remote)
        fs.copy_files(
            runs[0], target.root, source_filesystem=fs.LocalFileSystem(),
            destination_filesystem=target.fs,
        )  # fmt: skip
        out = f"s3://bucket/set?{query}"
        assert cli.main(["export", f"run_dir={remote}", f"out={out}", "rows_per_file=3"]) == 0
        found = read_export(out, check_files=True)
        assert found.rows() == 4
        assert [source["folder"] for source in found.facts["sources"]] == ["run"]
        folder = Folder(out)
        fs.copy_files(
            folder.root, str(tmp_path / "set"), source_filesystem=folder.fs,
            destination_filesystem=fs.LocalFileSystem(),
        )  # fmt: skip
        assert [row["prompt_id"] for row in rows_of(tmp_path / "set")] == ["a0", "a1", "a2", "a3"]
        # Another export does not go into it.
        assert cli.main(["export", f"run_dir={remote}", f"out={out}", "format=kto"]) == 2
        assert "holds another export" in capsys.readouterr().err
        assert cli.main(["export", f"run_dir={remote}", f"out={out}", "--push", "me/set"]) == 2
        assert "takes a local out" in capsys.readouterr().err


def test_a_complete_folder_is_pushed_to_the_hub(runs, tmp_path):
    """In a process of its own: huggingface_hub reads HF_ENDPOINT when it is imported."""
    with hub() as server:
        environment = {
            **{k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"},
            "HF_ENDPOINT": server.url,
            "HF_TOKEN": "hf_test",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": str(tmp_path / "home"),
        }

        def push() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [
                    *(sys.executable, "-m", "jobs.export", f"run_dir={runs[0]}"),
                    *(f"out={tmp_path}/out", "--push", "team/digits"),
                ],
                cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip

        server.refusals = 1
        refused = push()
        assert refused.returncode == 1, refused.stderr
        assert "cannot push" in refused.stderr
        assert "Traceback" not in refused.stderr
        done = push()
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["pushed"].endswith("0" * 40)
        files = server.repositories["team/digits"]
        asked = server.created["team/digits"]
        assert asked.get("private") is True or asked.get("visibility") == "private", asked
        out = tmp_path / "out"
        local = {
            str(file.relative_to(out)): file.read_bytes()
            for file in out.rglob("*")
            if file.is_file() and file.parent.name != "lease"
        }
        assert files == local
        assert {"README.md", "export.json", "default/train-00000-of-00001.parquet"} < set(files)
