"""The pages of a run in a headless Chromium, opened from disk: no error, every filter and key, deep
links. `make test-browser` runs them."""

from dataclasses import asdict
from urllib.parse import quote

import pytest

from nabla_core.types import Cost
from tests.pipeline.export.runs import trace, write_run
from tests.pipeline.report import browser
from tests.pipeline.report.browser import count, listed
from tests.pipeline.report.sites import made

pytestmark = pytest.mark.browser
browser.skip_unless_asked()


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


def test_large_numbers_have_three_digits_and_the_exact_one_as_a_title(page, tmp_path):
    rows = [
        trace("a", cost=asdict(Cost(rollouts=1, flops=81_033_636.0, generated_tokens=2_345_678)))
    ]
    page.open(made(tmp_path / "out", write_run(tmp_path / "run", rows)).page.as_uri())
    assert page.texts(".cards .exact") == ["81 MFLOP"]
    assert page.run("document.querySelector('.cards .exact').title") == "81,033,636 FLOP"
    page.go("#/trace/a")
    cost = "[aria-label=Cost] .exact"
    assert page.texts(cost) == ["2.35 M", "81 MFLOP"]
    titles = page.run(f"[...document.querySelectorAll('{cost}')].map(e => e.title)")
    assert titles == ["2,345,678", "81,033,636 FLOP"]


def test_a_run_without_revisions_says_nothing_of_them(page, tmp_path):
    rows = [trace(f"p{n}", "1;2", reward=None, answer="2") for n in range(3)]
    page.open(made(tmp_path / "out", write_run(tmp_path / "run", rows)).page.as_uri())
    words = page.text("main")
    assert "→" not in words
    for part in ("Responses changed", "Gain in reward", "Revisions proposed", "first right"):
        assert part not in words
    page.go("#/traces")
    assert page.texts("#list thead th") == [
        "trace", "prompt", "gold", "response", "verdict", "tokens"
    ]  # fmt: skip
    page.go("#/trace/p0")
    assert page.texts("[aria-label=Answer] dt") == ["Gold", "Answer"]


def test_a_search_finds_the_rows_that_hold_its_words_as_parts_of_theirs(page, site):
    questions = [f"1+{n % 10}=" if n % 6 == 0 else "1+2=" for n in range(120)]
    texts = [f"set/{n} {question} 3" for n, question in enumerate(questions)]
    page.open(site + "#/traces")
    for query in ("t/11", "SET/1 2=", "set/1 set/2", "+4 3 1", "/5 =", "\u202eset", "set/119"):
        page.go("#/traces?q=" + quote(query))
        expected = [text for text in texts if all(w in text for w in query.lower().split())]
        assert count(page) == len(expected), query


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
        "1. ✓ accepted at position 4: 3 → 4",
        "2. ✓ accepted at position 0: 1 → 5",
        "3. ✗ rejected at position 4: 4 → 9",
    ]
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


def test_a_link_to_nowhere_says_so(page, site):
    page.open(site + "#/trace/nobody%")
    assert page.text("h1") == "No such trace"
    page.go("#/trace/set%2F1?sample=9")
    assert "sample 9" in page.text("main")
    page.go("#/nothing")
    assert page.text("h1") == "run"


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
