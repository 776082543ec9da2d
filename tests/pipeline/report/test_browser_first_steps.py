"""What a new user needs: where to begin, what words mean, lists whose columns say something. In a
headless Chromium; `make test-browser` runs these."""

import json

import pytest

from tests.pipeline.export.runs import trace, write_run
from tests.pipeline.report import browser
from tests.pipeline.report.browser import count, listed
from tests.pipeline.report.sites import comparison, made

pytestmark = pytest.mark.browser
browser.skip_unless_asked()


def test_the_overview_says_where_to_begin(page, site):
    page.open(site)
    links = "[...document.querySelectorAll('nav[aria-label=\"Where to begin\"] a')]"
    found = page.run(f"{links}.map(a => [a.innerText, a.getAttribute('href')])")
    counts = {}
    for name, address in found:
        page.go(address)
        counts[name] = count(page)
    assert counts == {
        "all traces": 120,
        "largest gains in reward": 120,
        "wrong made right": 20,
        "right made wrong": 20,
        "wrong answers": 40,
        "least certain responses": 120,
    }


def test_words_are_explained_where_they_stand(page, site):
    page.open(site)
    page.run("document.querySelector('.glossary').open = true")
    known = page.texts(".glossary dt")
    assert {"accuracy", "reward", "revision", "FLOP", "dead letter"} <= set(known)
    page.go("#/trace/set%2F3")
    page.run("document.querySelectorAll('.glossary').forEach(d => d.open = true)")
    assert {"advantage", "confidence", "gradient norm"} <= set(page.texts(".glossary dt"))
    assert "undefined" not in page.text("main")
    assert "3 revisions were tried in this order; 2 of them were accepted" in page.text("main")
    assert "is revision n: it replaced a token" in page.text("section[aria-label=Response]")


def test_headings_order_the_list(page, site):
    page.open(site + "#/traces?answer=right")
    head = "document.querySelector('#list thead th:nth-child(%d) button')"
    names = page.texts("#list thead th")
    reward = head % (1 + names.index("reward"))
    states = []
    for _ in range(3):
        page.run(reward + ".click()")
        page.settle()
        states.append(
            [
                page.run("location.hash"),
                page.run(reward + ".parentElement.getAttribute('aria-sort')"),
                page.run("document.querySelector('[name=sort]').value"),
            ]
        )
    assert states == [
        ["#/traces?answer=right&sort=-reward", "descending", "-reward"],
        ["#/traces?answer=right&sort=reward", "ascending", "reward"],
        ["#/traces?answer=right", None, ""],
    ]


def test_a_list_of_free_texts_shows_how_responses_begin(page, tmp_path):
    texts = ["a red fox", "the blue sea"]
    rows = [
        trace(f"p{n}", "1;2", question=f"Write one short sentence with these words: {text}")
        | {"response": text.title(), "base_response": text.title()}
        for n, text in enumerate(texts)
    ]
    site = made(tmp_path / "out", write_run(tmp_path / "run", rows)).page.as_uri()
    page.open(site + "#/traces")
    assert page.texts("#list thead th")[:4] == ["trace", "prompt", "gold", "response"]
    assert page.texts("#list td[data-name=response]") == ["A Red Fox", "The Blue Sea"]
    # What all prompts begin with would take the room of what differs.
    assert page.texts("#list td.prompt") == [f"… {text}" for text in texts]
    titles = "[...document.querySelectorAll('#list td.prompt')].map(e => e.title)"
    assert page.run(titles)[1] == "Write one short sentence with these words: the blue sea"
    page.go("#/traces?q=sea")
    assert listed(page) == ["p1"]
    assert page.texts("#list td.prompt") == [rows[1]["question"]]
    page.go("#/trace/p0")
    assert "none extracted\n✓ right: the response was graded as a whole" in page.text("main")


def test_beginnings_of_responses_are_no_answers(page, tmp_path):
    rows = [
        trace("a", "1;2", predicted_answer="2"),
        trace("b", "1;3", correct=False),
        trace("c", "1;4", predicted_answer=""),
    ]
    page.open(made(tmp_path / "out", write_run(tmp_path / "run", rows)).page.as_uri() + "#/traces")
    assert page.texts("#list td[data-name=answer]") == ["2", "“1;3”", ""]


def test_curves_have_letters_and_shares_no_axis_below_zero(page, tmp_path):
    folder = tmp_path / "run"
    comparison(folder)
    file = folder / "summary.json"
    summary = json.loads(file.read_text())
    curve = {
        "arm": "search", "samples": [1, 2], "reward": None,
        "costs": {name: [1e6, 2e6] for name in ("flops", "paper_calls", "generated_tokens")},
    }  # fmt: skip
    summary["curves"] = [
        {**curve, "kind": kind, "accuracy": [low, high]}
        for kind, low, high in (("pass@k", 0.5, 0.9), ("best of k", 0.0, 0.4))
    ]
    for arm in summary["arms"]:
        arm["yields"] = {**arm["yields"], "right_per_gflop": 0.0043, "hard_per_gflop": None}
    file.write_text(json.dumps(summary))
    page.open(made(tmp_path / "out", str(folder)).page.as_uri())
    chart = "[aria-label=Comparison] figure:first-of-type"
    assert page.texts(f"{chart} .legend li") == [
        "runs",
        "a. search: pass@k",
        "b. search: best of k",
    ]
    texts = page.run(
        f"[...document.querySelectorAll('{chart} svg[role=img] text')].map(e => e.textContent)"
    )
    assert texts[4] == "0"
    assert texts[-2:] == ["a", "b"]
    cells = page.texts("[aria-label^=Yield] thead th")
    assert cells[3] == "for 1 TFLOP"
    assert page.texts("[aria-label^=Yield] tbody tr:first-child td")[2] == "4.30"
