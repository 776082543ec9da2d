"""What pages of many traces weigh, how long they take to write, and how fast a browser is.

    python -m tests.bench.pipeline.pages FOLDER [rows ...]    # default: 1,000 and 100,000

Makes synthetic runs (20 words, 24 tokens, one revision a row), writes their pages in a process of
its own, and opens them from disk in a headless Chromium, which must be installed. Each time is the
best of three, in a fresh tab. The last line is one JSON object.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.report.config import ReportConfig
from pipeline.report.job import report
from tests.bench.export import synthetic_run
from tests.pipeline.report.browser import Page, chromium

REPEATS = 3
FILTERS = {
    "filter": "change=same&reward.min=0.5",
    "sort": "sort=-reward",
    "filter and sort": "reward.min=0.2&reward.max=0.9&sort=-gain",
    "search": "q=w12",
    "search again": "q=w345 p1",
}


def write(run: str, out: str) -> None:
    """Write the pages in this process; prints seconds and the peak of its memory."""
    started = time.monotonic()
    report(ReportConfig(run_dir=(run,), out=out), lambda done, total: None)
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"write s": round(seconds, 1), "writer MB": peak}))


def weights(site: Path) -> dict[str, float]:
    """Megabytes of the folder's parts."""

    def size(pattern: str) -> float:
        return round(sum(f.stat().st_size for f in site.glob(pattern)) / 1e6, 2)

    parts = ("index/*", "words/*", "rows/*")
    page = sum((site / name).stat().st_size for name in ("index.html", "report.css", "report.js"))
    return {"page kB": round(page / 1e3), **{f"{p[:-2]} MB": size(p) for p in parts}}


def browse(page: Page, url: str, last: int) -> dict[str, float]:
    """Milliseconds of each step."""
    page.open(url)
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
    page.wait(f"({paint}) !== null")
    times = {"first paint": page.run(paint)}
    page.open(url)
    times["list"] = _milliseconds(lambda: _list(page, ""))
    for name, query in FILTERS.items():
        _list(page, query)
        times[name] = page.run("+document.getElementById('list').dataset.milliseconds")
    times["trace by its id"] = _milliseconds(lambda: _trace(page, f"p{last}"))
    times["heap MB"] = page.call("Runtime.getHeapUsage")["usedSize"] / 1e6
    return times


def _list(page: Page, query: str) -> None:
    page.run("document.querySelector('#list')?.replaceChildren()")
    page.run(f"location.hash = '#/traces?{query}&'")
    page.wait("document.querySelector('#list .count')", 120)


def _trace(page: Page, name: str) -> None:
    page.run(f"location.hash = '#/trace/{name}'")
    page.wait("document.querySelector('[aria-label=Response]')")


def _milliseconds(work: Callable[[], Any]) -> float:
    started = time.monotonic()
    work()
    return 1000 * (time.monotonic() - started)


def best(rounds: list[dict[str, float]]) -> dict[str, int]:
    """The smallest of each number."""
    return {name: round(min(one[name] for one in rounds)) for name in rounds[0]}


def measured(folder: Path, rows: int) -> dict[str, Any]:
    """All numbers of one size."""
    run, site = folder / f"run-{rows}", folder / f"site-{rows}"
    if not (run / "_SUCCESS").exists():
        synthetic_run(run, rows)
    words = [sys.executable, "-m", "tests.bench.pipeline.pages", "--write", str(run), str(site)]
    written = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    rounds = []
    for _ in range(REPEATS):
        with chromium() as page:
            rounds.append(browse(page, (site / "index.html").as_uri(), rows - 1))
    return {"rows": rows, **written, **weights(site), **best(rounds)}


def main() -> None:
    """Measure every size."""
    if sys.argv[1:2] == ["--write"]:
        write(*sys.argv[2:4])
        return
    folder = Path(sys.argv[1])
    sizes = [int(word) for word in sys.argv[2:]] or [1_000, 100_000]
    print(json.dumps([measured(folder, rows) for rows in sizes]))


if __name__ == "__main__":
    main()
