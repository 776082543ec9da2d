"""The folder of pages: what is in it, and when it is not written."""

import math
from pathlib import Path

import numpy as np
import pytest

from jobs import report as command
from nabla_core.embedded.tokenizer import STOP_ID
from pipeline.errors import InputError, ResumeError, StoreError
from pipeline.report import pages, writer
from pipeline.report.index import COLUMNS
from pipeline.report.site import PARTS
from pipeline.store.files import Folder
from pipeline.store.parts import commit
from tests.pipeline.export.runs import SCHEMA, trace, write_run
from tests.pipeline.report import sites
from tests.pipeline.report.chunks import chunk_in, rows_in
from tests.pipeline.report.sites import made, ordinary, unpacked, values


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), ordinary())


@pytest.fixture(scope="module")
def site(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "pages"
    made(out, run)
    return out


def rows_of(site):
    count = len(list((site / "rows").iterdir()))
    return [row for n in range(count) for row in rows_in(unpacked(site / "rows" / f"{n}.js"))]


def columns_of(site, count):
    data = unpacked(site / "index" / "0.js")
    found, start = {}, 0
    for name, kind in COLUMNS:
        found[name] = np.frombuffer(data, f"<{kind}", count, start)
        start += count * int(kind[1])
    assert start == len(data)
    return found


def test_the_overview_counts_what_the_run_holds(site):
    (arm,) = values(site / "run.js")["arms"]
    f = arm["figures"]
    assert (arm["state"], arm["job"], f["rows"], f["dead"]) == ("done", "generate", 100, 20)
    assert arm["dead"] == {"ValueError": 20}
    assert f["verdicts"] == {
        "right to right": 20, "wrong to right": 20, "right to wrong": 20, "wrong to wrong": 20
    }  # fmt: skip
    assert (f["proposed"], f["accepted"], f["revised"], f["changed"]) == (100, 60, 40, 40)
    assert (f["cut"], f["prompts"]) == (20, 120)
    accuracy = f["accuracy"]
    assert (accuracy["before"], accuracy["after"], accuracy["change"]) == (0.5, 0.5, 0.0)
    # 80 prompts, of which 20 gained and 20 lost.
    half = 1.96 * math.sqrt(40 / 79 / 80)
    assert (accuracy["low"], accuracy["high"]) == pytest.approx((-half, half))
    assert f["times"]["rows"][-1] == 120


def test_an_interval_counts_a_prompt_once_whatever_its_samples(tmp_path):
    def answers(samples):
        return [
            trace(f"p{n}", "1", "2", sample=s, base_correct=True, correct=n % 2 == 0)
            for n in range(10) for s in range(samples)
        ]  # fmt: skip

    widths = []
    for samples in (1, 4):
        out = tmp_path / f"out{samples}"
        facts = made(out, write_run(tmp_path / f"run{samples}", answers(samples))).facts
        accuracy = facts["arms"][0]["figures"]["accuracy"]
        widths.append(accuracy["high"] - accuracy["low"])
    assert widths[0] == pytest.approx(widths[1])


def test_the_index_has_every_row_with_its_flags_and_numbers(site):
    columns = columns_of(site, 120)
    rows = rows_of(site)
    assert len(rows) == 120
    for n, row in enumerate(rows):
        flags = columns["flags"][n]
        assert bool(flags & 1) == (row["error"] is not None)
        assert bool(flags & 2) == (row["response"] != row["base_response"])
        assert (bool(flags & 4), bool(flags & 8)) == (
            row["correct"] is True,
            row["correct"] is False,
        )
        assert bool(flags & 64) == (row["finish_reason"] == "length")
        assert columns["tokens"][n] == len(row["response_token_ids"] or ())
        assert columns["proposed"][n] == len(row["revisions"] or ())
        known = row["reward"] is not None
        assert columns["reward"][n] == pytest.approx(row["reward"]) if known else True
        assert np.isnan(columns["reward"][n]) == (not known)


def test_words_are_those_of_the_rows_in_order(site):
    lines = unpacked(site / "words" / "0.js").decode().split("\n")
    assert [line.split("\t")[0] for line in lines] == [row["prompt_id"] for row in rows_of(site)]
    # Where the verifier has extracted no answer, the words are those that the response begins with.
    assert lines[1].split("\t") == ["set/1", "0", "1+2=", "3", "1;2;4"]


def test_rows_are_flagged_whose_answer_was_extracted(tmp_path):
    long = "many words " * 20
    rows = [trace("a", "1;2", predicted_answer="2"), trace("b", "1;2", predicted_answer="")]
    rows += [trace("c") | {"response": long}, trace("d", error="ValueError: none")]
    rows += [trace("e") | {"response": f" a{' ' * 400}b "}, trace("f") | {"response": " a  b\n"}]
    made(tmp_path / "out", write_run(tmp_path / "run", rows))
    lines = unpacked(tmp_path / "out" / "words" / "0.js").decode().split("\n")
    words = {line.split("\t")[0]: line.split("\t")[4] for line in lines}
    assert words == {
        "a": "2",
        "b": "",
        "c": long[:80].strip() + "…",
        "d": "",
        "e": "a…",
        "f": "a b",
    }
    arm = values(tmp_path / "out" / "run.js")["arms"][0]
    assert arm["figures"]["answered"] == 2


def test_a_row_has_the_texts_of_its_tokens_those_of_rejected_branches_too(site):
    data = unpacked(site / "rows" / "0.js")
    chunk, _ = chunk_in(data)
    row = next(r for r in rows_in(data) if len(r["revisions"] or ()) == 3)
    rejected = row["revisions"][2]
    assert rejected["accepted"] is False
    text = "".join(chunk["pieces"][str(i)] for i in rejected["tail_token_ids"])
    assert text == "9<eos>"
    assert chunk["special"] == [STOP_ID]


def test_a_chunk_is_bounded_by_rows_and_by_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "CHUNK_ROWS", 4)
    monkeypatch.setattr(writer, "CHUNK_BYTES", 3000)
    rows = [trace(f"p{n}") for n in range(9)]
    rows[4] = {**rows[4], "response": "x" * 5000}
    made(tmp_path / "out", write_run(tmp_path / "run", rows))
    sizes = [len(rows_in(unpacked(f))) for f in sorted((tmp_path / "out" / "rows").iterdir())]
    assert sizes == [4, 1, 4]
    starts = np.frombuffer(unpacked(tmp_path / "out" / "chunks.js"), "<u4").tolist()
    assert starts == [0, 4, 5]


def test_blocks_follow_one_another(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "BLOCK", 50)
    monkeypatch.setattr(pages, "WORDS", 25)
    out = tmp_path / "out"
    made(out, write_run(tmp_path / "run", ordinary()))
    assert len(list((out / "index").iterdir())) == 3
    blocks = [unpacked(out / "words" / f"{n}.js").decode().split("\n") for n in range(5)]
    assert [len(block) for block in blocks] == [25, 25, 25, 25, 20]


def test_texts_of_others_are_data_in_every_file(tmp_path):
    rows = sites.hostile()
    out = tmp_path / "out"
    made(out, write_run(tmp_path / "run", rows))
    assert sorted(r["prompt_id"] for r in rows_of(out)) == sorted(r["prompt_id"] for r in rows)
    for file in out.rglob("*.js"):
        if file.name != "report.js":
            unpacked(file)  # nothing but base64
    assert "script" not in "".join(p.name for p in out.rglob("*"))


def test_the_same_rows_give_the_same_files(run, site, tmp_path):
    made(tmp_path / "again", run)
    for file in site.rglob("*.js"):
        if file.name != "run.js":  # holds the time
            assert (tmp_path / "again" / file.relative_to(site)).read_bytes() == file.read_bytes()


def test_an_unfinished_run_shows_what_is_committed_and_says_so(tmp_path):
    path = write_run(tmp_path / "run", ordinary(12), finished=False)
    Folder(path).write("input.json", b'{"rows": 50, "nabla_schema": "traces/5"}')
    name = commit(Folder(path), SCHEMA, [trace("torn")])
    torn = Path(path, name)
    torn.write_bytes(torn.read_bytes()[:-20])
    outcome = made(tmp_path / "out", path)
    assert outcome.warnings == [
        "run is not finished: 12 of 50 rows are committed", "run: 1 damaged files are left out"
    ]  # fmt: skip
    assert outcome.facts["arms"][0]["state"] == "stopped"


def test_settings_that_cannot_be_read_are_said_to_be_missing(tmp_path):
    path = write_run(tmp_path / "run", [trace("a")])
    Path(path, "config.yaml").write_text("{")
    outcome = made(tmp_path / "out", path)
    assert outcome.warnings[0] == "run: its config.yaml is missing or damaged"
    assert outcome.facts["arms"][0]["config"] == {}


def test_a_run_without_rows_yet_has_pages_too(tmp_path):
    path = write_run(tmp_path / "run", [trace("a")], finished=False)
    for file in Folder(path).files("parts"):
        Folder(path).delete(file.name)
    facts = made(tmp_path / "out", path).facts
    assert (facts["rows"], facts["arms"][0]["figures"]["accuracy"]) == (0, None)


def test_files_that_a_compaction_replaces_meanwhile_are_read_again(tmp_path, monkeypatch):
    path = write_run(tmp_path / "run", [trace("a")], finished=False)
    original = writer.index_part
    calls = []

    def replaced(*arguments):
        if not calls:
            calls.append(1)
            commit(Folder(path), SCHEMA, [trace("b")])
            for file in Folder(path).files("parts")[:1]:
                Folder(path).delete(file.name)
            commit(Folder(path), SCHEMA, [trace("a")])
            from pipeline.report.committed import ChangedError  # noqa: PLC0415

            raise ChangedError("replaced")
        return original(*arguments)

    monkeypatch.setattr(writer, "index_part", replaced)
    made(tmp_path / "out", path)
    assert {r["prompt_id"] for r in rows_of(tmp_path / "out")} == {"a", "b"}


@pytest.fixture
def earlier(tmp_path):
    """A report, and the run that it is of."""
    path = write_run(tmp_path / "run", [trace("a")])
    return path, made(tmp_path / "out", path).page.parent


def test_a_report_takes_the_place_of_an_earlier_one(earlier, tmp_path):
    _, out = earlier
    (out / "rows" / "99.js").write_text("of the earlier one")
    made(out, write_run(tmp_path / "other", [trace("b")]))
    assert [r["prompt_id"] for r in rows_of(out)] == ["b"]
    assert not (out / "rows" / "99.js").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "out", "run"]


def test_an_earlier_report_stays_where_another_one_fails(earlier, tmp_path, monkeypatch):
    path, out = earlier
    monkeypatch.setattr(writer.pages, "overview", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made(out, path)
    assert [r["prompt_id"] for r in rows_of(out)] == ["a"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "run"]


def test_a_folder_with_something_else_is_not_touched(earlier, tmp_path):
    path, _ = earlier
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResumeError, match=r"something else \(thesis\.tex\): give an empty"):
        made(other, path)
    with pytest.raises(ResumeError, match="is a file: give a folder"):
        made(tmp_path / "file", path)
    with pytest.raises(ResumeError, match="is a run folder: give another out"):
        made(Path(path), path)
    with pytest.raises(StoreError, match="is a URI: give a local folder"):
        made("s3://bucket/out", path)
    assert [p.name for p in other.iterdir()] == ["thesis.tex"]


def test_the_command_prints_the_page_last(earlier, capsys):
    path, _ = earlier
    assert command.main([f"run_dir={path}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{path}-report/index.html"
    assert Path(f"{path}-report/index.html").is_file()
    assert command.main(["run_dir=/nowhere/at/all"]) == 2
    assert capsys.readouterr().err == "error: /nowhere/at/all is no run folder\n"
    with pytest.raises(InputError):
        made("x", "/nowhere/at/all")
    assert not Path("/nowhere").exists()


def test_every_part_of_the_script_is_in_it():
    web = Path(writer.__file__).parent / "web"
    assert sorted(PARTS) == sorted(file.stem for file in web.glob("*.js"))
