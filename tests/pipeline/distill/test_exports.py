"""What a folder must be to be trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import distill
from pipeline.distill.config import DistillConfig, TrainingRows
from pipeline.distill.exports import read_exports
from pipeline.errors import InputError
from tests.pipeline.distill.exported import pairs, settings, texts, write_export


def read(*paths: Path):
    return read_exports(DistillConfig(data=TrainingRows(exports=tuple(map(str, paths)))))


def test_what_is_no_complete_export_is_refused_by_name(tmp_path: Path):
    export = write_export(tmp_path / "export", texts(4), tokenizer="sha256:1")
    (only,) = read(export)
    assert (only.kind, only.tokenizer) == ("responses", "sha256:1")
    assert only.describe()["dropped"] == {"wrong": 1}
    assert str(tmp_path) not in json.dumps(only.describe())
    with pytest.raises(InputError, match="none is no folder of `nabla export`"):
        read(tmp_path / "none")
    (export / "export.json").write_bytes((export / "export.json").read_bytes() + b" ")
    with pytest.raises(InputError, match="is not the one that _SUCCESS names"):
        read(export)
    (export / "_SUCCESS").unlink()
    with pytest.raises(InputError, match="is not complete: it has no _SUCCESS"):
        read(export)


def test_folders_of_two_formats_and_of_no_use_are_refused(tmp_path: Path):
    sft = write_export(tmp_path / "sft", texts(4))
    dpo = write_export(tmp_path / "dpo", pairs(4), format="preference", layout=None)
    with pytest.raises(InputError, match=r"of format preference, and .*sft of sft \(text\)"):
        read(sft, dpo)
    rl = write_export(tmp_path / "rl", texts(4), format="rl", layout=None)
    with pytest.raises(InputError, match="of format rl: a student is trained on sft, tokens"):
        read(rl)


def test_a_wrong_command_writes_nothing(plain, tmp_path: Path, capsys, monkeypatch):
    export, run = write_export(tmp_path / "export", texts(4)), tmp_path / "run"
    for wrong, message in (
        (f"data.exports=[{tmp_path / 'none'}]", "is no folder of `nabla export`"),
        (f"validation.prompts.path={tmp_path}/none.jsonl", "none.jsonl"),
        ("optimise.batch=9", "must be a multiple of optimise.micro_batch=2 times"),
        ("workers.count=3", "must be a multiple of workers.count=3"),
        ("optimise.fsdp=true", "optimise.fsdp=true needs workers.gpu=true"),
        ("validation.verify.method=none", "needs a validation.verify.method"),
        ("validation.metric=reward", "validation.metric=reward needs a validation.judge"),
        ("dpo.sft_weight=0", "dpo.sft_weight must be above 0"),
        ("report_to=[wandb]", "report_to=wandb needs wandb, which is not installed here"),
    ):
        assert distill.main(settings(plain, export, run, wrong)) == 2
        assert message in capsys.readouterr().err
    for metric, refused in (("loss", True), ("accuracy", False)):
        more = ("data.held_out=0", f"validation.metric={metric}")
        distill.main([*settings(plain, export, run, *more), "--dry-run"])
        needs = "validation.metric=loss needs held-out rows"
        assert (needs in capsys.readouterr().err) == refused
    assert not (run / "config.yaml").exists()


def test_a_folder_that_holds_something_else_is_refused(plain, tmp_path: Path, capsys):
    export = write_export(tmp_path / "export", texts(4))
    assert distill.main(settings(plain, export, export)) == 2
    assert "is no run folder and holds _EXPORT, _SUCCESS, default, ..." in capsys.readouterr().err
    assert not (export / "lease").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "_JOB").write_text('{"job": "train-guide", "rows": null}')
    (tmp_path / "other" / "_VERSION").write_text("2\n")
    assert distill.main(settings(plain, export, tmp_path / "other")) == 2
    assert "is the run folder of `nabla train-guide`" in capsys.readouterr().err
