"""Texts that want to be more than text, in a headless Chromium: shown, never run, and readable by
all. `make test-browser` runs these."""

import json
from urllib.parse import quote

import pytest

from tests.pipeline.report import browser, sites
from tests.pipeline.report.sites import ANSI, BIDI, IDS, MEGABYTE, SCRIPT

pytestmark = pytest.mark.browser
browser.skip_unless_asked()


@pytest.mark.parametrize("number", range(len(IDS)))
def test_a_deep_link_leads_to_any_id(page, bad_site, number):
    page.open(bad_site + "#/trace/" + quote(IDS[number], safe=""))
    assert page.text("section[aria-label=Prompt] .text") == f"question-{number}"
    page.go("#/traces?q=" + quote(f"question-{number}"))
    page.run("document.querySelector('#list a[data-n]').click()")
    page.settle()
    assert page.text("section[aria-label=Prompt] .text") == f"question-{number}"


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


def test_tools_are_named_and_their_schemas_and_calls_are_shown(page, bad_site):
    page.open(bad_site + "#/trace/tools")
    prompt = "section[aria-label=Prompt]"
    assert page.text(f"{prompt} details.tools summary") == f"2 tools: {SCRIPT}, now"
    assert page.texts(f"{prompt} .role") == [
        "user", "assistant", f"calls {SCRIPT}", f"tool {SCRIPT}"
    ]  # fmt: skip
    assert page.texts(f"{prompt} > .text") == [
        "how many?", json.dumps({SCRIPT: 1}, indent=2), "three"
    ]  # fmt: skip
    page.run("document.querySelector('details.tools').open = true")
    assert '"a": ' in page.texts("details.tools .text")[1]
    assert page.run("window.hacked") is None
    assert page.run("document.querySelectorAll('main img, main script').length") == 0


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


def test_where_the_tokenizer_is_unknown_the_text_is_shown(page, bad_site):
    page.open(bad_site + "#/trace/ansi")
    assert "its tokenizer was not found" in page.text("main")
    assert sites.ANSI[1:4] in page.text("section[aria-label=Response] .text")


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_too_wide_and_axe_finds_nothing_serious(page, bad_site, site, width, dark):
    page.screen(width=width, dark=dark)
    found = {}
    urls = [site + end for end in ("", "#/traces", "#/trace/set%2F3", "#/keys")]
    urls += [bad_site + end for end in ("#/traces", "#/trace/script", "#/trace/tools")]
    for url in urls:
        page.open(url)
        page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        page.settle()
        wide = page.run("document.documentElement.scrollWidth")
        assert wide <= width, (url, wide)
        if browser.AXE.is_file():
            found[url] = browser.faults(page)
    assert not any(found.values()), json.dumps(found, indent=1)
    if not browser.AXE.is_file():
        pytest.skip("axe-core is not there: `make test-browser` fetches it with npm")
