"""Folders of `nabla compare` as pages."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.report.config import ReportConfig
from pipeline.report.serve import Source, script
from pipeline.store.checks.owner import Owner, claim_owner
from pipeline.store.files import Folder
from tests.pipeline.export.runs import trace, write_run
from tests.pipeline.report.sites import comparison, made, values


def test_a_comparison_shows_its_arms_with_its_figures(tmp_path):
    path = comparison(tmp_path / "run")
    made(tmp_path / "out", path)
    facts = values(tmp_path / "out" / "run.js")
    assert [arm["name"] for arm in facts["arms"]] == ["plain", "search", "both"]
    assert (facts["kind"], facts["rows"], facts["starts"]) == ("traces", 12, [0, 3, 6, 12])
    assert facts["title"] == "run"
    compared, summary = facts["compared"], json.loads(Path(path, "summary.json").read_text())
    assert compared["missing"] == []
    for shown, arm in zip(compared["arms"], summary["arms"], strict=True):
        assert {**shown, "run_dir": arm["run_dir"]} == arm
    assert str(tmp_path) not in json.dumps(facts)
    assert facts["comparisons"][0]["only_second_right"] == 1


def test_the_reference_is_the_run_that_others_are_paired_with(tmp_path):
    path = comparison(tmp_path / "run")
    file = Path(path, "summary.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "reference": "search"}))
    facts = made(tmp_path / "out", path).facts
    assert [arm["name"] for arm in facts["arms"]] == ["search", "plain", "both"]


def test_a_comparison_may_be_moved_and_runs_that_are_gone_are_named(tmp_path):
    comparison(tmp_path / "run", missing="both")
    shutil.move(tmp_path / "run", tmp_path / "moved")
    facts = made(tmp_path / "out", str(tmp_path / "moved")).facts
    assert [arm["name"] for arm in facts["arms"]] == ["plain", "search"]
    assert facts["compared"]["missing"] == ["both"]
    assert str(tmp_path) not in json.dumps(facts)
    assert [arm["name"] for arm in facts["compared"]["arms"]] == ["plain", "search", "both"]


def test_a_run_that_cannot_be_read_is_named_with_the_reason(tmp_path):
    path = comparison(tmp_path / "run")
    Path(path, "arms", "both", "_VERSION").write_text("99")
    outcome = made(tmp_path / "out", path)
    (warning,) = outcome.warnings
    assert warning.startswith("both has no traces here: ")
    assert "99" in warning
    assert outcome.facts["compared"]["missing"] == ["both"]


def test_a_server_shows_a_comparison(tmp_path):
    source = Source(ReportConfig(run_dir=(comparison(tmp_path / "run"),)))
    view = source.current()
    assert [arm.name for arm in view.arms] == ["plain", "search", "both"]
    (tmp_path / "run.js").write_bytes(script(view, "run"))
    assert values(tmp_path / "run.js")["compared"]["reference"] == "plain"


def test_comparisons_that_cannot_be_shown_are_refused(tmp_path):
    path = comparison(tmp_path / "run")
    other = write_run(tmp_path / "other", [trace("a")])
    with pytest.raises(InputError, match=r"run is a comparison: show it alone"):
        made(tmp_path / "out", other, path)
    file = Path(path, "summary.json")
    file.write_text("[]")
    with pytest.raises(InputError, match=r"summary\.json is not that of a comparison"):
        made(tmp_path / "out", path)
    file.write_text("{")
    with pytest.raises(InputError, match=r"summary\.json is damaged: give its command again"):
        made(tmp_path / "out", path)
    begun = Folder(str(tmp_path / "begun"))
    claim_owner(begun, Owner("compare"))
    with pytest.raises(InputError, match=r"begun has no summary\.json yet: give its command again"):
        made(tmp_path / "out", begun.uri)
    alone = comparison(tmp_path / "alone")
    shutil.rmtree(Path(alone, "arms"))
    with pytest.raises(InputError, match="none of its runs can be read: "):
        made(tmp_path / "out", alone)
    assert not (tmp_path / "out").exists()
