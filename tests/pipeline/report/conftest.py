"""A tab of a headless Chromium, and pages that it opens. See `browser`."""

import pytest

from pipeline.report import pages, search, writer
from tests.pipeline.export.runs import write_run
from tests.pipeline.report import browser
from tests.pipeline.report.sites import hostile, made, ordinary


@pytest.fixture(scope="session")
def tab():
    with browser.chromium() as page:
        yield page


@pytest.fixture
def page(tab):
    """The tab; an error in its console fails the test."""
    # The page of the test before may still be reading what it will want.
    tab.call("Page.navigate", url="about:blank")
    tab.errors.clear()
    tab.requests.clear()
    tab.screen(width=1200)
    yield tab
    tab.run("localStorage.clear()")
    assert tab.errors == []


@pytest.fixture(scope="session")
def site(tab, tmp_path_factory):
    """The page of a run of ordinary rows, in several chunks, blocks and shards."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "CHUNK_ROWS", 50)
        for module, name, value in (
            (pages, "BLOCK", 50),
            (pages, "WORDS", 25),
            (search, "SHARD", 50),
            (search, "IDS", 16),
        ):
            patch.setattr(module, name, value)
        return made(folder / "out", write_run(folder / "run", ordinary())).page.as_uri()


@pytest.fixture(scope="session")
def bad_site(tab, tmp_path_factory):
    """The page of a run whose texts are markup, control characters, or very long."""
    folder = tmp_path_factory.mktemp("hostile")
    return made(folder / "out", write_run(folder / "run", hostile())).page.as_uri()
