"""Measures the time and memory that a resume and a compaction of many committed rows take.

    python -m tests.chaos.scale [rows] [rows a part]

Commits the rows, then takes the steps of a resume in a process of their own: it reads the
input, scans the folder and compacts it. The last line is JSON with seconds and peak memory
(MiB) of each step.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from pipeline.inputs.prompts import Item, index
from pipeline.store.slots import FINISHED
from tests.pipeline.rows import item, row, store_in

T = TypeVar("T")


def items(count: int) -> Iterator[Item]:
    return (item(f"prompt-{n:08d}") for n in range(count))


def main(count: int, group: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        store, waiting = store_in(folder), []
        for each in items(count):
            waiting.append(row(each))
            if len(waiting) == group:
                store.commit(waiting)
                waiting = []
        if waiting:
            store.commit(waiting)
        seconds = time.monotonic() - started
        print(f"committed {count} rows as {len(store.parts())} parts in {seconds:.1f} s")
        subprocess.run(
            [sys.executable, "-m", "tests.chaos.scale", "resume", folder, str(count)], check=True
        )


def resume(folder: str, count: int) -> None:
    report: dict[str, float] = {"rows": count}

    def timed(name: str, work: Callable[[], T]) -> T:
        started = time.monotonic()
        result = work()
        report[f"{name}_s"] = round(time.monotonic() - started, 2)
        report[f"{name}_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return result

    store = store_in(folder)
    timed("start", lambda: None)
    inputs = timed("input", lambda: index(items(count), "generated"))
    slots = timed("scan", lambda: store.scan(inputs, 1))
    assert slots.count(FINISHED) == count
    timed("compact", lambda: store.compact(slots))
    timed("complete", store.mark_complete)
    print(json.dumps(report))


if __name__ == "__main__":
    if sys.argv[1:2] == ["resume"]:
        resume(sys.argv[2], int(sys.argv[3]))
    else:
        sizes = [int(argument) for argument in sys.argv[1:]]
        main(*(sizes + [100_000, 64][len(sizes) :]))
