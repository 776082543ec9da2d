"""Pages of several runs, of one that goes on, and of trainings, in a headless Chromium. `make
test-browser` runs these."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.store.checks.owner import Owner, claim_owner
from pipeline.store.files import Folder
from pipeline.store.parts import commit
from pipeline.training.history import write_history
from tests.pipeline.export.runs import SCHEMA, trace, write_run
from tests.pipeline.report import browser
from tests.pipeline.report.browser import count, listed
from tests.pipeline.report.sites import SCRIPT, comparison, made, ordinary

pytestmark = pytest.mark.browser
browser.skip_unless_asked()


def test_a_chunk_that_is_missing_is_named(page, site, tmp_path):
    out = made(tmp_path / "out", write_run(tmp_path / "run", ordinary(6))).page
    (out.parent / "rows" / "0.js").unlink()
    page.open(out.as_uri() + "#/trace/set%2F1")
    assert "cannot load rows/0.js: is the folder complete?" in page.text("main")
    page.errors[:] = [e for e in page.errors if "ERR_FILE_NOT_FOUND" not in e]


@pytest.fixture(scope="module")
def two(tab, tmp_path_factory):
    """The page of two runs that share some prompts."""
    folder = tmp_path_factory.mktemp("two")
    first = [trace("a", "1;2", correct=True), trace("b", "3;4", correct=False), trace("c", "5")]
    second = [
        trace("a", "1;7", correct=False, reward=0.5), trace("b", "3;4", correct=True, reward=3.0),
        trace("d", "5"),
    ]  # fmt: skip
    runs = write_run(folder / "one", first), write_run(folder / "two", second)
    return made(folder / "out", *runs).page.as_uri()


def test_two_runs_are_compared_on_the_same_prompts(page, two):
    page.open(two)
    words = page.text("section[aria-label=Comparison]")
    assert (
        "2 rows answer the same prompt and sample in both; 1 are in the first run alone, 1" in words
    )
    assert "right in the second run alone: 1" in words
    page.go("#/traces?arm=1&pair=gained")
    assert listed(page) == ["b"]
    page.go("#/traces?arm=1&pair=lost")
    assert listed(page) == ["a"]
    page.go("#/traces?pair=better")
    assert listed(page) == ["b"]
    page.go("#/trace/a?arm=1")
    page.wait("document.querySelector('#side .text')")
    assert page.texts("#side h3") == ["one", "two (this page)"]
    assert page.texts("#side del.differs, #side ins.differs") == ["7", "2"]
    page.go("#/trace/d?arm=1")
    assert "No other run answers this prompt" in page.text("main")


def test_a_comparison_has_intervals_costs_and_the_traces_behind_its_differences(page, tmp_path):
    page.open(made(tmp_path / "out", comparison(tmp_path / "run")).page.as_uri())
    words = page.text("section[aria-label=Comparison]")
    assert "3 prompts, the same for every arm. Differences are to plain, paired by prompt" in words
    rows = {row.split("\t")[0]: row for row in page.texts("[aria-label=Arms] tbody tr")}
    assert rows["plain"].startswith("plain\tnabla\t0.333 [")
    charts = "[aria-label=Comparison] figure svg[role=img]"
    assert page.run(f"document.querySelectorAll('{charts}').length") == 3
    names = page.texts("[aria-label=Comparison] figure:first-of-type ol.names li")
    assert names == ["plain", "search", "both"]
    page.run("document.querySelector('[aria-label^=Differences] td a[href*=gained]').click()")
    page.wait("document.querySelector('#list .count')")
    assert (page.run("location.hash"), listed(page)) == (
        "#/traces?arm=1&pair=gained&sort=-gain", ["a"]
    )  # fmt: skip
    page.run("document.querySelector('#list a[data-n]').click()")
    page.wait("document.querySelector('#side .text')")
    assert page.texts("#side h3") == ["plain", "search (this page)", "both"]
    if browser.AXE.is_file():
        page.go("#/")
        page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert browser.faults(page) == []


def test_a_comparison_of_many_arms_is_folded_and_shows_those_that_are_chosen(page, tmp_path):
    page.open(made(tmp_path / "out", comparison(tmp_path / "run", more=10)).page.as_uri())
    # One chart, of the cost that is chosen; the runs' own figures on demand.
    assert page.run("document.querySelectorAll('figure svg[role=img]').length") == 1
    assert page.text("figcaption").startswith("Accuracy by FLOPs")
    page.run(
        "(() => { const e = document.querySelector('[name=cost]'); e.value = 'paper_calls';"
        " e.dispatchEvent(new Event('change')); })()"
    )
    assert page.text("figcaption").startswith("Accuracy by calls")
    summaries = page.texts("details.run > summary")
    assert summaries[1] == "search: accuracy 0.667, reward 1.667, 3 rows"
    assert len(summaries) == 13
    page.run("document.querySelector('details.run').open = true")
    page.settle()
    assert "Distributions" in page.text("details.run")
    page.go("#/trace/a?arm=1")
    page.wait("document.querySelector('#side .side')")
    assert page.texts("#side h3") == ["plain", "search (this page)"]
    rows = page.texts("#side tbody tr")
    assert len(rows) == 13
    assert "✗ wrong" in rows[0]
    page.run("document.querySelectorAll('#side input')[2].click()")
    page.wait("document.querySelectorAll('#side h3').length === 3")
    assert page.texts("#side h3") == ["plain", "search (this page)", "both"]
    page.go("#/trace/b?arm=1")  # the choice stays
    page.wait("document.querySelectorAll('#side h3').length === 3")


@pytest.fixture
def server(tmp_path, interruptible):
    """The address of a server of a run that goes on, its folder, and its process."""
    run = write_run(tmp_path / "run", ordinary(12), finished=False)
    words = [sys.executable, "-m", "jobs.report", f"run_dir={run}", "--serve", "port=0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    yield process.stdout.readline().strip(), run, process
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    process.stdout.close()
    assert process.wait(60) == 0


def test_a_server_shows_rows_that_are_committed_meanwhile(page, server):
    address, run, _ = server
    page.open(address + "#/traces?q=set")
    assert (count(page), page.text("h1")) == (12, "Traces")
    page.go("#/trace/set%2F3")
    assert page.text("h1") == "set/3"
    page.go("#/traces?q=set")
    commit(Folder(run), SCHEMA, [trace("set/new"), trace("other")])
    page.wait("document.querySelector('#list .count')?.innerText.startsWith('13 of 14')")
    assert {url.split("/")[2] for url in page.requests if "//" in url} == {address.split("/")[2]}


def test_a_page_says_that_its_server_is_gone(page, server):
    address, _, process = server
    page.open(address)
    assert page.run("document.getElementById('lost').hidden") is True
    process.send_signal(signal.SIGINT)
    page.wait("!document.getElementById('lost').hidden")
    assert "The server does not answer." in page.text("#lost")
    assert page.text("h1") == "run"
    page.errors[:] = [e for e in page.errors if "ERR_CONNECTION_REFUSED" not in e]


def test_a_training_has_its_curves(page, tmp_path):
    folder = Folder(str(tmp_path / "run"))
    claim_owner(folder, Owner("train-guide"))
    steps = [{"step": n, "loss": 2 / n, "top1": n / 40, "kind": SCRIPT} for n in (10, 20, 30)]
    write_history(folder, {"measurements": steps})
    page.open(made(tmp_path / "out", folder.uri).page.as_uri())
    assert page.run("document.querySelectorAll('figure svg').length") == 2
    assert "top1: how often the best alternative is found" in page.text("figure:nth-of-type(2)")
    assert "nabla train-guide, stopped." in page.text("main")
    assert SCRIPT in page.text("main")
    assert page.run("window.hacked") is None
    write_history(folder, {"measurements": steps[:1]})
    page.open(made(tmp_path / "out", folder.uri).page.as_uri())
    assert page.run("document.querySelectorAll('figure svg').length") == 0
    assert "There are curves once there are two steps with figures." in page.text("main")


def test_an_unfinished_run_says_so(page, tmp_path):
    path = write_run(tmp_path / "run", ordinary(12), finished=False)
    Path(path, "input.json").write_text('{"rows": 50, "nabla_schema": "traces/5"}')
    page.open(made(tmp_path / "out", path).page.as_uri())
    assert "This run is not finished. nabla generate, stopped: 12 of 50" in page.text("main")
