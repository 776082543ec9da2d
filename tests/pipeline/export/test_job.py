"""The dataset folder: loading it, going on with it, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from datasets import load_dataset
from huggingface_hub import DatasetCard

from pipeline.errors import InputError, LeaseError, ResumeError, RunError
from pipeline.export.config import Card, ExportConfig, Filters, NearDuplicates, Split
from pipeline.export.folder import is_export, read_export
from pipeline.export.job import export
from pipeline.store.files import Folder
from pipeline.store.lease import hold_lease
from pipeline.tables.counterfactuals import COUNTERFACTUALS
from tests.pipeline.export.runs import FINGERPRINT, exported, rows_of, trace, write_run
from tests.pipeline.train_guide.folders import explored_row
from tests.pipeline.train_guide.folders import folder as finished

SIX = [trace(f"p{n}", question=f"{n}+2=", reward=float(n)) for n in range(6)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "first", SIX)


def files(out: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(out)): file.read_bytes()
        for file in sorted(out.rglob("*"))
        if file.is_file() and file.parent.name != "lease"
    }


def test_datasets_loads_both_configs_and_splits(run, tmp_path):
    settings = {"split": Split(held_out=0.4, seed=1), "rows_per_file": 2}
    outcome = exported(tmp_path / "out", run, **settings)
    cache = str(tmp_path / "cache")
    rows = load_dataset(str(tmp_path / "out"), cache_dir=cache)
    traces = load_dataset(str(tmp_path / "out"), "metadata", cache_dir=cache)
    assert {name: len(rows[name]) for name in rows} == outcome.facts["splits"]
    assert sum(outcome.facts["splits"].values()) == 6
    for split in ("train", "test"):
        assert rows[split]["prompt_id"] == traces[split]["prompt_id"]
        assert set(traces[split]["run"]) == {"first"}
    assert rows["train"].column_names == ["prompt", "completion", "prompt_id", "sample"]
    assert len(list((tmp_path / "out" / "default").glob("*.parquet"))) == len(
        [file for file in outcome.facts["files"] if file.startswith("default/")]
    )


def test_several_run_folders_become_one(run, tmp_path):
    other = write_run(tmp_path / "second", [trace("q", "5.", question="3+2=")])
    facts = exported(tmp_path / "out", run, other).facts
    assert [row["run"] for row in rows_of(tmp_path / "out", config="metadata")] == [
        *["first"] * 6,
        "second",
    ]
    assert [(source["folder"], source["rows"]) for source in facts["sources"]] == [
        ("first", 6),
        ("second", 1),
    ]
    with pytest.raises(InputError, match="are one run"):
        exported(tmp_path / "twice", run, run)


def test_the_card_names_models_settings_filters_and_shows_two_rows(run, tmp_path):
    card = Card(license="mit", language=("en",), source_licenses=("GSM8K: MIT",))
    exported(tmp_path / "digits", run, card=card, filters=Filters(min_reward=2.0))
    text = (tmp_path / "digits" / "README.md").read_text()
    loaded = DatasetCard(text)
    data = loaded.data.to_dict()
    assert (data["license"], data["language"], data["size_categories"]) == ("mit", ["en"], ["n<1K"])
    assert {"synthetic", "nabla-pipeline"} < set(data["tags"])
    for words in (
        "# digits",
        "embedded:lm (sha256:lm)",
        "| 6 | read |",
        "| 2 | dropped: reward below min_reward |",
        "| 4 | kept |",
        "- GSM8K: MIT",
        "| reward | 3.5 |",
        "min_reward: 2.0",
    ):
        assert words in text
    assert text.count("````json") == 2
    for path in (run, str(tmp_path)):
        assert path not in text
        assert path not in (tmp_path / "digits" / "export.json").read_text()


def test_read_export_gives_the_facts_of_a_complete_folder_alone(run, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="is no folder of `nabla export`"):
        read_export(run)
    exported(out, run)
    found = read_export(str(out), check_files=True)
    assert (found.format, found.layout, found.rows(), found.rows("test")) == (
        *("sft", "prompt_completion", 6, 0),
    )
    assert found.tokenizer_fingerprint == FINGERPRINT
    assert is_export(str(out))
    assert not is_export(run)
    (file,) = (out / "default").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"?")
    with pytest.raises(InputError, match="was altered"):
        read_export(str(out), check_files=True)
    file.unlink()
    with pytest.raises(InputError, match="is missing"):
        read_export(str(out))
    file.write_bytes(content)
    (out / "export.json").write_text("{}")
    with pytest.raises(InputError, match="not the one that _SUCCESS names"):
        read_export(str(out))
    (out / "_SUCCESS").unlink()
    with pytest.raises(InputError, match="is not complete"):
        read_export(str(out))


class Interrupted(Exception):
    """Stands for a process that dies."""


@pytest.mark.parametrize("after", [1, 3, 5])
def test_an_interrupted_export_goes_on_with_the_first_file_that_is_missing(run, tmp_path, after):
    settings = {"rows_per_file": 1, "split": Split(held_out=0.3)}
    exported(tmp_path / "whole", run, **settings)
    config = ExportConfig(run_dir=(run,), out=str(tmp_path / "out"), **settings)
    written = []

    def die(phase: str, done: int, total: int) -> None:
        if phase.startswith("writing"):
            written.append(phase)
            if len(written) > after:
                raise Interrupted

    with pytest.raises(Interrupted):
        export(config, die)
    out = tmp_path / "out"
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.parquet")}
    assert len(before) == 2 * after
    assert not (out / "_SUCCESS").exists()
    outcome = exported(out, run, **settings)
    assert not outcome.already_complete
    assert {file: file.stat().st_mtime_ns for file in before} == before
    expected = files(tmp_path / "whole")
    found = files(out)
    # The name of the folder is the title of the card.
    for content in (expected, found):
        del content["README.md"]
    assert found == expected
    again = exported(out, run, **settings)
    assert again.already_complete
    assert again.facts == outcome.facts


def test_a_torn_file_of_an_interrupted_export_is_written_again(run, tmp_path):
    exported(tmp_path / "out", run, rows_per_file=2)
    expected = files(tmp_path / "out")
    (tmp_path / "out" / "_SUCCESS").unlink()
    torn = sorted((tmp_path / "out" / "default").iterdir())[1]
    torn.write_bytes(torn.read_bytes()[:-20])
    exported(tmp_path / "out", run, rows_per_file=2)
    assert files(tmp_path / "out") == expected


def test_a_folder_is_never_mixed_of_two_exports(run, tmp_path):
    out = tmp_path / "out"
    exported(out, run)
    before = files(out)
    with pytest.raises(ResumeError, match="holds another export") as error:
        exported(out, run, format="kto", filters=Filters(min_reward=1.0))
    assert "format: sft in the folder, kto now" in str(error.value)
    other = write_run(tmp_path / "first", SIX[:5])
    with pytest.raises(ResumeError, match="its run folders or the tokenizer were others"):
        exported(out, other)
    # Incomplete ones neither.
    (out / "_SUCCESS").unlink()
    with pytest.raises(ResumeError, match="holds another export"):
        exported(out, run, layout="text")
    (out / "_SUCCESS").write_bytes(before["_SUCCESS"])
    assert files(out) == before


def test_an_out_that_holds_something_else_is_refused(run, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("mine")
    with pytest.raises(ResumeError, match=r"holds something else \(thesis\.txt\)"):
        exported(tmp_path / "notes", run)
    with pytest.raises(ResumeError, match="is a run folder: give another out"):
        exported(run, run)
    with pytest.raises(ResumeError, match="lies in the run folder"):
        exported(Path(run) / "export", run)
    (tmp_path / "file").write_text("")
    with pytest.raises(ResumeError, match="is a file"):
        exported(tmp_path / "file", run)
    assert sorted(os.listdir(tmp_path / "notes")) == ["thesis.txt"]


def test_two_exports_do_not_write_one_folder(run, tmp_path):
    with (
        hold_lease(Folder(str(tmp_path / "out")), 30.0),
        pytest.raises(LeaseError, match="held by"),
    ):
        exported(tmp_path / "out", run)
    exported(tmp_path / "out", run)


def test_a_run_that_is_not_complete_is_refused_or_named_in_the_card(tmp_path):
    rows = [*SIX[:3], trace("dead", question="7+2=", error="ValueError: no"), SIX[0]]
    run = write_run(tmp_path / "run", rows, finished=False)
    with pytest.raises(InputError, match=r"has no _SUCCESS\. Give its command again, or allow_"):
        exported(tmp_path / "out", run)
    facts = exported(tmp_path / "out", run, allow_partial=True).facts
    assert facts["partial"] is True
    assert facts["sources"][0]["complete"] is False
    assert facts["dropped"] == {"dead letter": 1, "committed twice": 1}
    assert [row["prompt_id"] for row in rows_of(tmp_path / "out")] == ["p0", "p1", "p2"]
    assert "**Not all of a run:**" in (tmp_path / "out" / "README.md").read_text()


def test_what_is_no_run_of_traces_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="is no run folder"):
        exported(tmp_path / "out", tmp_path / "missing")
    finished(tmp_path / "other", COUNTERFACTUALS, [explored_row("a")])
    (tmp_path / "other" / "_VERSION").write_text("2\n")
    with pytest.raises(InputError, match="holds counterfactuals/4, not traces"):
        exported(tmp_path / "out", tmp_path / "other")
    shutil.copytree(run, tmp_path / "damaged")
    (file,) = (tmp_path / "damaged" / "data").iterdir()
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match="cannot read"):
        exported(tmp_path / "out", tmp_path / "damaged")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config.yaml", "models.json"])
@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[1, 2]", b"{", b"7"])
def test_a_run_with_a_damaged_description_is_refused_by_its_file(run, tmp_path, name, content):
    shutil.copytree(run, tmp_path / "damaged")
    (tmp_path / "damaged" / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"damaged/{name} is damaged: restore it"):
        exported(tmp_path / "out", tmp_path / "damaged")
    assert not (tmp_path / "out").exists()


def test_nothing_left_is_refused_with_the_counts_by_reason(run, tmp_path):
    with pytest.raises(InputError, match="nothing is left of 6 traces") as error:
        exported(tmp_path / "out", run, filters=Filters(min_reward=3.0, min_tokens=50))
    assert "3 reward below min_reward" in str(error.value)
    assert "3 shorter than min_tokens" in str(error.value)
    with pytest.raises(InputError, match="split test is empty"):
        exported(tmp_path / "out", run, split=Split(held_out=1e-9))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_loses_nothing_and_more_room_finishes_the_export(tmp_path):
    rows = [
        trace(f"p{n}", question="".join(f"{k}+" for k in range(n, n + 300))) for n in range(900)
    ]
    run = write_run(tmp_path / "run", rows)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "none", disk], check=True)
    try:
        with pytest.raises(RunError, match=r"dataset folder .*No space left"):
            exported(disk / "out", run, rows_per_file=100)
        whole = list((disk / "out").rglob("*.parquet"))
        assert whole
        assert not (disk / "out" / "_SUCCESS").exists()
        subprocess.run(["mount", "-o", "remount,size=32m", disk], check=True)
        exported(disk / "out", run, rows_per_file=100)
        read_export(str(disk / "out"), check_files=True)
        assert len(rows_of(disk / "out")) == 900
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_of_temporary_files_is_named(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", [trace(f"p{n}", question=f"{n}+1=") for n in range(40)])
    near = Filters(near_duplicates=NearDuplicates(threshold=0.9))
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", disk], check=True)
    try:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with pytest.raises(RunError, match=f"temporary folder {disk}.*No space left"):
            exported(tmp_path / "out", run, filters=near)
        assert not (tmp_path / "out").exists()
        subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
        exported(tmp_path / "out", run, filters=near)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_the_marker_and_the_facts_hold_the_settings(run, tmp_path):
    exported(tmp_path / "out", run)
    marker = json.loads((tmp_path / "out" / "_EXPORT").read_text())
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    assert marker["settings"] == facts["config"]
    assert marker["digest"] == facts["config_hash"]
    assert yaml.safe_dump(facts["config"])
