"""What pages of many traces weigh, how long they take to write, and how fast a browser is.

    python -m tests.bench.pipeline.pages FOLDER [rows ...]    # default: 1,000 and 100,000

Makes synthetic runs (20 words, 24 tokens, one revision a row), writes their pages in a process of
its own, and opens them from disk in a headless Chromium, which must be installed. Each time is the
best of three, each in a fresh browser, in which a step is asked for as soon as the one before is
done; then once from a server of its own (`--serve`), which has made nothing before. "CPU" are
seconds of the page's process, or of the server's until it is ready, which other work on the machine
changes little. Prints a table, and as its last line one JSON object. A million rows take some ten
minutes of a core and 2 GB of disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.report.config import ReportConfig
from pipeline.report.job import report
from tests.bench.arguments import show_help
from tests.bench.export import synthetic_run
from tests.pipeline.report.browser import Page, chromium

REPEATS = 3
# In this order: what is first reads scripts, what is again does not.
LISTS = {
    "list": "",
    "filter": "change=same&reward.min=0.5",
    "first order": "sort=-reward",
    "order again": "reward.min=0.2&reward.max=0.9&sort=-reward",
    "first search": "q=w12",
    "search again": "q=w345 p1",
}


def write(run: str, out: str) -> None:
    """Write the pages in this process; prints seconds, and the peak of its memory."""
    started, cpu = time.monotonic(), time.process_time()
    report(ReportConfig(run_dir=(run,), out=out), lambda done, total: None)
    found = {
        "write s": round(time.monotonic() - started, 1),
        "write CPU s": round(time.process_time() - cpu, 1),
        "writer MB": _peak("self"),
    }
    print(json.dumps(found))


def _peak(process: int | str) -> int:
    """The most memory that a process has had, in megabytes."""
    # Not ru_maxrss, which a process inherits from the one that started it.
    return (
        int(Path(f"/proc/{process}/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024
    )


def weights(site: Path) -> dict[str, float]:
    """Megabytes of the folder and of its parts."""

    def size(pattern: str) -> float:
        files = (f.stat().st_size for f in site.glob(pattern) if f.is_file())
        return round(sum(files) / 1e6, 2)

    parts = ("index", "ids", "search", "words", "rows")
    page = sum((site / name).stat().st_size for name in ("index.html", "report.css", "report.js"))
    return {
        "page kB": round(page / 1e3),
        "disk MB": size("**/*"),
        **{f"{part} MB": size(f"{part}/*") for part in parts},
    }


def browse(page: Page, url: str, last: int) -> dict[str, float]:
    """Seconds of each step, and the megabytes of the page at the end."""
    page.call("Performance.enable")
    page.open(url)
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
    page.wait(f"({paint}) !== null")
    times = {"first paint s": page.run(paint) / 1000}
    page.open(f"{url}#/trace/p{last}")
    page.wait("document.querySelector('[aria-label=Response]')")
    times["trace by id s"] = page.run("performance.now()") / 1000
    page.open(url)
    for name, query in LISTS.items():
        times[f"{name} s"], times[f"{name} CPU s"] = _list(page, query)
    heap = page.call("Runtime.getHeapUsage")
    times["page MB"] = (heap["usedSize"] + heap.get("backingStorageSize", 0)) / 1e6
    return times


def _list(page: Page, query: str) -> tuple[float, float]:
    page.run("document.querySelector('#list')?.replaceChildren()")
    started, cpu = time.monotonic(), _cpu(page)
    page.run(f"location.hash = '#/traces?{query}&'")
    page.wait("document.querySelector('#list[aria-busy=false] .count')", 300)
    return time.monotonic() - started, _cpu(page) - cpu


def _cpu(page: Page) -> float:
    metrics = page.call("Performance.getMetrics")["metrics"]
    return float(next(m["value"] for m in metrics if m["name"] == "ProcessTime"))


def served(run: Path, last: int) -> dict[str, float]:
    """The same from a server: seconds until it is ready, of each step, and its memory."""
    words = [sys.executable, "-m", "jobs.report", f"run_dir={run}", "--serve", "port=0"]
    started = time.monotonic()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        ready, cpu = time.monotonic() - started, _seconds(server.pid)
        try:
            with chromium() as page:
                steps = browse(page, url, last)
            peak = _peak(server.pid)
        finally:
            server.terminate()
    found = {"ready s": ready, "ready CPU s": cpu, **steps, "server MB": peak}
    return {f"served: {name}": round(value, 2) for name, value in found.items()}


def _seconds(process: int) -> float:
    """The seconds of the processor that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def best(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The smallest of each number."""
    return {name: round(min(one[name] for one in rounds), 2) for name in rounds[0]}


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
    return {"rows": rows, **written, **weights(site), **best(rounds), **served(run, rows - 1)}


def table(sizes: list[dict[str, Any]]) -> str:
    """A line for each number, a column for each size."""
    lines = [[name, *(f"{one[name]:,}" for one in sizes)] for name in sizes[0]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        for line in lines
    )


def main() -> None:
    """Measure every size."""
    show_help(__doc__)
    if sys.argv[1:2] == ["--write"]:
        write(*sys.argv[2:4])
        return
    folder = Path(sys.argv[1])
    sizes = [int(word) for word in sys.argv[2:]] or [1_000, 100_000]
    found = [measured(folder, rows) for rows in sizes]
    print(table(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
