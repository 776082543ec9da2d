"""What a run prints and writes: no values from the environment, no control characters."""

import json
import re

import pytest

from jobs import generate, status
from jobs.display import console
from jobs.display.progress import Progress
from pipeline import references
from pipeline.run.prompt_status import PromptState, PromptStatus

ID = "p\x1b[31m\nerror: forged\u202e"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(references, "_REFERENCES", {})


def assert_clean(printed: str, *values: str) -> None:
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", printed)
    assert not re.search("^error: forged", printed, re.MULTILINE)
    for value in values:
        assert value not in printed


def test_a_run_shows_references_in_place_of_values(job, tmp_path, monkeypatch, capfd):
    secret, out = "wJal/rXUtnFEMI", tmp_path / "private" / "run"
    rows = [{"id": ID, "prompt": "!raise"}, {"id": "q", "prompt": "one"}]
    (tmp_path / secret).parent.mkdir()
    (tmp_path / f"{secret}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("PROMPTS", secret)
    monkeypatch.setenv("OUT", str(out.parent))
    monkeypatch.setenv("SEED", "7")
    more = [
        f"prompts.path={tmp_path}/${{oc.env:PROMPTS}}.jsonl",
        *("run_dir=${oc.env:OUT}/run", "seed=${oc.env:SEED}", "max_dead_fraction=1"),
    ]
    values = (secret, str(out.parent))
    assert job("unused", *more) == 3
    printed = "".join(capfd.readouterr())
    # Ray prints some lines of its own, in colours.
    assert_clean(re.sub("^\x1b.*raylet.*$", "", printed, flags=re.MULTILINE), *values)
    assert r"dead letter p\x1b[31m\nerror: forged\u202e#0: " in printed
    assert "${oc.env:OUT}/run: done" in printed
    for name in ("config.yaml", "manifest.json"):
        assert_clean((out / name).read_text(), *values)
    written = (out / "config.yaml").read_text()
    assert "seed: ${oc.env:SEED}" in written
    assert "path: " + f"{tmp_path}/${{oc.env:PROMPTS}}.jsonl" in written

    assert job("unused", *more) == 3
    assert "${oc.env:OUT}/run: was already done" in "".join(capfd.readouterr())
    monkeypatch.setenv("SEED", "8")
    assert job("unused", *more) == 2
    assert "other values of seed, which come from the environment" in capfd.readouterr().err
    assert status.main([f"run_dir={out}"]) == 0
    printed = capfd.readouterr().out
    assert "committed  2 of 2 rows" in printed


def test_a_dry_run_marks_every_line_of_the_prompt(tmp_path, capfd):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"id": ID, "prompt": "one\nerror: forged\x1b[2J"}) + "\n")
    arguments = [f"prompts.path={path}", "lm.path=scripted", f"run_dir={tmp_path / 'run'}"]
    assert generate.main(["--dry-run", *arguments]) == 0
    printed = "".join(capfd.readouterr())
    assert_clean(printed)
    assert "  | error: forged\\x1b[2J" in printed


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["run_dir=s3://KEY:SE/CRET@b/run", "nothing=1"], ""),
        (["run_dir=s3://KEY:SE/CRET@b/run", "prompts.path=/no\x1b[31m/such.jsonl"], r"/no\x1b[31m"),
        (["run_dir=foo://KEY:SE/CRET@b/run", "prompts.limit=1"], "***@b/run"),
        (["prompts.path=s3://KEY:SE/CRET@b/p q.jsonl"], "s3://***@b/p q.jsonl"),
    ],
)
def test_an_error_holds_no_secret(given, shown, capfd):
    assert generate.main(["lm.path=scripted", "--dry-run", *given]) == 2
    printed = "".join(capfd.readouterr())
    assert_clean(printed, "SE/CRET", "KEY")
    assert shown in printed


def test_tables_progress_and_errors_print_nothing_raw(capfd):
    progress = Progress()
    progress.note(f"note {ID}")
    progress.on_status(PromptStatus((ID, 0), PromptState.DEAD, f"ValueError: {ID}"))
    progress.phase(ID)
    console.print_error(ValueError(ID))
    console.print_line(ID.replace("\n", ""))
    from rich.table import Table  # noqa: PLC0415

    table = Table()
    table.add_column("x")
    table.add_row(ID)
    console.print_table(table)
    printed = "".join(capfd.readouterr())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", printed)
