"""A tab of a headless Chromium, and pages that it opens. See `browser`."""

import pytest

from pipeline.report import writer
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
    tab.errors.clear()
    tab.requests.clear()
    tab.screen(width=1200)
    yield tab
    tab.run("localStorage.clear()")
    assert tab.errors == []


@pytest.fixture(scope="session")
def site(tab, tmp_path_factory):
    """The page of a run of ordinary rows, in several chunks."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "CHUNK_ROWS", 50)
        return made(folder / "out", write_run(folder / "run", ordinary())).page.as_uri()


@pytest.fixture(scope="session")
def bad_site(tab, tmp_path_factory):
    """The page of a run whose texts are markup, control characters, or very long."""
    folder = tmp_path_factory.mktemp("hostile")
    return made(folder / "out", write_run(folder / "run", hostile())).page.as_uri()
