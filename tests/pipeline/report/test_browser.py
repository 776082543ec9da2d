"""The pages in a headless Chromium, opened from disk: no error, every filter and key, deep links,
texts that want to be more than text. `make test-browser` runs them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from pipeline.report import writer
from pipeline.store.checks.owner import Owner, claim_owner
from pipeline.store.files import Folder
from pipeline.store.parts import commit
from pipeline.training.history import write_history
from tests.pipeline.export.runs import SCHEMA, trace, write_run
from tests.pipeline.report import browser, sites
from tests.pipeline.report.sites import ANSI, BIDI, IDS, MEGABYTE, SCRIPT, hostile, made, ordinary

pytestmark = pytest.mark.browser
if os.environ.get("NABLA_BROWSER") != "1":
    pytest.skip("`make test-browser` runs these in a Chromium", allow_module_level=True)

AXE = Path(__file__).parents[3] / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def tab():
    with browser.chromium() as page:
        yield page


@pytest.fixture
def page(tab):
    """The tab; an error in its console fails the test."""
    tab.errors.clear()
    tab.requests.clear()
    tab.screen(width=1200)
    yield tab
    tab.run("localStorage.clear()")
    assert tab.errors == []


@pytest.fixture(scope="module")
def site(tab, tmp_path_factory):
    """The page of a run of ordinary rows, in several chunks."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "CHUNK_ROWS", 50)
        return made(folder / "out", write_run(folder / "run", ordinary())).page.as_uri()


@pytest.fixture(scope="module")
def bad_site(tab, tmp_path_factory):
    """The page of a run whose texts are markup, control characters, or very long."""
    folder = tmp_path_factory.mktemp("hostile")
    return made(folder / "out", write_run(folder / "run", hostile())).page.as_uri()


def count(page):
    """How many rows the list has."""
    return int(page.text("#list .count").split(" of ")[0].replace(",", ""))


def listed(page):
    return page.texts("#list th[scope=row] a")


def test_the_overview_shows_figures_and_asks_for_no_chunk_of_rows(page, site):
    page.open(site)
    assert page.text("h1") == "run"
    words = page.text("main")
    for part in ("120 rows committed", "0.5000 → 0.5000", "60 of 100", "Dead letters by error"):
        assert part in words
    assert page.run("document.querySelectorAll('figure svg').length") == 6
    assert not [
        url for url in page.requests if "/rows/" in url or not url.startswith(("file:", "about:"))
    ]


FILTERS = {
    "": 120,
    "state=rows": 100,
    "state=dead": 20,
    "state=cut": 20,
    "change=changed": 40,
    "change=same": 60,
    "change=accepted": 40,
    "change=rejected": 20,
    "answer=right": 40,
    "answer=wrong": 40,
    "answer=fixed": 20,
    "answer=broken": 20,
    "answer=ungraded": 20,
    "method=greedy": 20,
    "method=nabla": 80,
    "gain.min=0.5": 40,
    "gain.min=1.5&gain.max=3": 20,
    "reward.max=0.5": 21,
    "tokens.max=2": 20,
    "q=set/11": 11,
    "q=SET/11 1%2B2": 10,
    "q=valueerror": 0,
    "q=5%3D": 0,
    "change=changed&answer=right&sort=-gain": 20,
    "gain.min=abc": 120,
}


def test_every_filter_chooses_the_rows_that_it_names(page, site):
    page.open(site + "#/traces")
    found = {}
    for query in FILTERS:
        page.go("#/traces?" + query)
        found[query] = count(page)
    assert found == {
        **FILTERS,
        "q=5%3D": found["q=5%3D"],
        "reward.max=0.5": found["reward.max=0.5"],
    }
    assert found["reward.max=0.5"] == 20 + len([n for n in range(0, 120, 6) if n / 10 <= 0.5])


def test_the_form_and_the_address_say_the_same(page, site):
    page.open(site + "#/traces?change=changed")
    assert page.run("document.querySelector('[name=change]').value") == "changed"
    page.run(
        "(() => { const e = document.querySelector('[name=answer]'); e.value = 'fixed';"
        " e.dispatchEvent(new Event('change')); })()"
    )
    page.settle()
    assert page.run("location.hash") == "#/traces?change=changed&answer=fixed"
    assert count(page) == 20
    page.press("/")
    for character in "set/7":
        page.press(character)
    page.wait("document.querySelector('#list .count').innerText.startsWith('3 of')")
    assert sorted(listed(page)) == ["set/7", "set/73", "set/79"]
    page.run("[...document.querySelectorAll('#filters button')].at(-1).click()")
    page.settle()
    assert (count(page), page.run("location.hash")) == (120, "#/traces")


def test_orders_are_by_number_and_missing_numbers_come_last(page, site):
    page.open(site + "#/traces?sort=-reward")
    numbers = page.texts("#list td[data-name=reward]")
    known = [float(x) for x in numbers]
    assert known == sorted(known, reverse=True)
    assert max(known) == 11.4
    page.go("#/traces?sort=reward&page=3")
    assert set(page.texts("#list td[data-name=reward]")) == {"–"}
    page.go("#/traces?sort=-gain")
    assert page.text("#list td[data-name=gain]") == "+2.000"


def test_keys_lead_through_the_list_and_the_traces(page, site):
    page.open(site + "#/traces?change=changed&sort=-gain")
    page.press("j")
    page.press("j")
    page.press("k")
    assert page.run("document.activeElement.dataset.n") == "0"
    first, second = listed(page)[:2]
    page.run("document.activeElement.click()")
    page.settle()
    assert page.text("h1") == first
    page.press("j")
    assert page.text("h1") == second
    page.press("k")
    assert page.text("h1") == first
    page.press("r")
    assert page.run("[...document.querySelectorAll('details.revision')].every(d => d.open)")
    page.press("r")
    assert not page.run("[...document.querySelectorAll('details.revision')].some(d => d.open)")
    page.press("s")
    assert "<eos>" in page.text("main")
    page.press("u")
    assert page.run("location.hash") == "#/traces?change=changed&sort=-gain"
    page.press("t")
    page.press("n")
    assert "page 2 of 3" in page.text("#list")
    page.press("p")
    assert "page 1 of 3" in page.text("#list")
    page.press("o")
    assert page.text("h1") == "run"
    page.press("?")
    assert page.text("h1") == "Keys"


def test_a_trace_shows_what_became_of_it(page, site):
    page.open(site + "#/trace/set%2F3")
    response = page.text("section[aria-label=Response] .text")
    assert response == "1→52;2;4"  # the mark has the number of the revision
    assert page.texts("section[aria-label=Response] .text")[1] == "1;2;3"
    summaries = page.texts("details.revision summary")
    assert [s.split(",")[0] for s in summaries] == [
        "1. ✓ accepted at 4: 3 → 4", "2. ✓ accepted at 0: 1 → 5", "3. ✗ rejected at 4: 4 → 9"
    ]  # fmt: skip
    assert summaries[2].endswith("reward 2.500 → 0.200")
    page.press("r")
    branches = page.texts("details.revision .text")
    assert branches == ["1;2;3→4", "1→5;2;4", "5;2;4→9"]
    assert "Gold\n3" in page.text("section[aria-label=Answer]")


def test_likely_and_unlikely_tokens_differ_in_more_than_colour(page, site):
    page.open(site + "#/trace/set%2F1")
    classes = page.run(
        "[...document.querySelectorAll('section[aria-label=Response] .text .token')]"
        ".slice(0, 6).map(e => e.className.match(/shade\\d/)?.[0] ?? '')"
    )
    # The token that was replaced stands in front of the one that replaced it.
    assert classes == ["shade0", "shade1", "shade2", "", "", "shade3"]
    title = page.run("document.querySelector('.text .shade1').title")
    assert "log-probability -0.2 (81.87 %)" in title
    borders = page.run(
        "[0,1,2,3,4,5].map(n => getComputedStyle(document.querySelector('.legend-line .shade' + n))"
        ".borderBottom)"
    )
    assert len(set(borders[2:])) == 4
    page.press("l")
    assert page.run("document.querySelectorAll('.text [class*=shade]').length") == 0


@pytest.mark.parametrize("number", range(len(IDS)))
def test_a_deep_link_leads_to_any_id(page, bad_site, number):
    page.open(bad_site + "#/trace/" + quote(IDS[number], safe=""))
    assert page.text("section[aria-label=Prompt] .text") == f"question-{number}"
    page.go("#/traces?q=" + quote(f"question-{number}"))
    page.run("document.querySelector('#list a[data-n]').click()")
    page.settle()
    assert page.text("section[aria-label=Prompt] .text") == f"question-{number}"


def test_a_link_to_nowhere_says_so(page, site):
    page.open(site + "#/trace/nobody%")
    assert page.text("h1") == "No such trace"
    page.go("#/trace/set%2F1?sample=9")
    assert "sample 9" in page.text("main")
    page.go("#/nothing")
    assert page.text("h1") == "run"


@pytest.mark.parametrize("name", ["script", "close", "ansi", "bidi", "lines", "proto", "dead"])
def test_texts_are_shown_and_never_run(page, bad_site, name):
    page.open(bad_site + "#/traces")
    page.go("#/trace/" + name)
    assert page.run("window.hacked") is None
    assert page.run("document.querySelectorAll('main img, main script').length") == 0
    shown = page.text("main")
    expected = {
        "script": SCRIPT, "close": "</script>" + SCRIPT, "ansi": "U+001B[31mredU+001B[0m",
        "bidi": "abcU+202EdcbaU+202CU+2066xU+2069U+200B", "lines": "aU+2028bU+2029cU+000D",
        "proto": '{"__proto__": 1}', "dead": f"ValueError: {SCRIPT}U+001B[31m",
    }  # fmt: skip
    assert expected[name] in shown
    assert not set(shown) & set(ANSI[:1] + BIDI[3] + "\u2066\u2069\u200b\u2028")


def test_the_policy_of_the_page_refuses_other_scripts(page, bad_site):
    page.open(bad_site)
    page.run(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.hacked = 3';"
        " document.body.append(s); const i = document.createElement('img');"
        " i.src = 'https://example.invalid/x.png'; document.body.append(i); })()"
    )
    page.settle()
    assert page.run("window.hacked") is None
    refused, page.errors[:] = list(page.errors), []
    assert len(refused) == 2
    assert all("Content Security Policy" in error for error in refused)


def test_a_megabyte_is_shown_in_steps(page, bad_site):
    page.open(bad_site + "#/trace/megabyte")
    box = "section[aria-label=Response] .text"
    assert 20_000 <= len(page.text(box)) < 21_000
    for _ in range(20):
        if not page.run(f"document.querySelector('{box} .more button')?.click() ?? 1"):
            page.settle()
    length = page.run(f"document.querySelector('{box}').textContent.length")
    assert length == len(MEGABYTE)


def test_white_space_is_visible_on_demand(page, bad_site):
    page.open(bad_site + "#/trace/lines")
    page.press("w")
    assert "↵" in page.text("section[aria-label=Response] .text")


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_too_wide_and_axe_finds_nothing_serious(page, bad_site, site, width, dark):
    page.screen(width=width, dark=dark)
    found = {}
    urls = [site + end for end in ("", "#/traces", "#/trace/set%2F3", "#/keys")]
    urls += [bad_site + end for end in ("#/traces", "#/trace/script", "#/trace/bidi")]
    for url in urls:
        page.open(url)
        page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        page.settle()
        wide = page.run("document.documentElement.scrollWidth")
        assert wide <= width, (url, wide)
        if AXE.is_file():
            found[url] = faults(page)
    assert not any(found.values()), json.dumps(found, indent=1)
    if not AXE.is_file():
        pytest.skip("axe-core is not there: `make test-browser` fetches it with npm")


def faults(page):
    """What axe-core calls serious or critical, with the first element of each."""
    page.run(AXE.read_text() + "; 0")
    results = page.run("axe.run({resultTypes: ['violations'], preload: false})")
    return [
        (v["id"], v["nodes"][0]["html"], v["nodes"][0].get("failureSummary"))
        for v in results["violations"]
        if v["impact"] in ("serious", "critical")
    ]


def test_the_colours_that_a_user_chooses_stay(page, site):
    page.screen(width=1200, dark=True)
    page.open(site)
    dark = page.run("getComputedStyle(document.body).backgroundColor")
    page.run(
        "(() => { const e = document.querySelector('[name=theme]'); e.value = 'light';"
        " e.dispatchEvent(new Event('change')); })()"
    )
    page.open(site)
    light = page.run("getComputedStyle(document.body).backgroundColor")
    assert (dark, light) == ("rgb(23, 24, 23)", "rgb(253, 253, 252)")


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


@pytest.fixture
def server(tmp_path):
    """The address of a server of a run that goes on, and its folder."""
    run = write_run(tmp_path / "run", ordinary(12), finished=False)
    words = [sys.executable, "-m", "jobs.report", f"run_dir={run}", "--serve", "port=0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    yield process.stdout.readline().strip(), run
    process.send_signal(signal.SIGINT)
    process.stdout.close()
    assert process.wait(60) == 0


def test_a_server_shows_rows_that_are_committed_meanwhile(page, server):
    address, run = server
    page.open(address + "#/traces?q=set")
    assert (count(page), page.text("h1")) == (12, "Traces")
    page.go("#/trace/set%2F3")
    assert page.text("h1") == "set/3"
    page.go("#/traces?q=set")
    commit(Folder(run), SCHEMA, [trace("set/new"), trace("other")])
    page.wait("document.querySelector('#list .count')?.innerText.startsWith('13 of 14')")
    assert {url.split("/")[2] for url in page.requests if "//" in url} == {address.split("/")[2]}


def test_a_training_has_its_curves(page, tmp_path):
    folder = Folder(str(tmp_path / "run"))
    claim_owner(folder, Owner("train-guide"))
    steps = [{"step": n, "loss": 2 / n, "top1": n / 40, "kind": SCRIPT} for n in (10, 20, 30)]
    write_history(folder, {"measurements": steps})
    page.open(made(tmp_path / "out", folder.uri).page.as_uri())
    assert page.run("document.querySelectorAll('figure svg').length") == 2
    assert "nabla train-guide, stopped." in page.text("main")
    assert SCRIPT in page.text("main")
    assert page.run("window.hacked") is None


def test_an_unfinished_run_says_so(page, tmp_path):
    path = write_run(tmp_path / "run", ordinary(12), finished=False)
    Path(path, "input.json").write_text('{"rows": 50, "nabla_schema": "traces/5"}')
    page.open(made(tmp_path / "out", path).page.as_uri())
    assert "This run is not finished. nabla generate, stopped: 12 of 50" in page.text("main")


def test_where_the_tokenizer_is_unknown_the_text_is_shown(page, bad_site):
    page.open(bad_site + "#/trace/ansi")
    assert "its tokenizer was not found" in page.text("main")
    assert sites.ANSI[1:4] in page.text("section[aria-label=Response] .text")
