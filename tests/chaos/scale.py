"""Measures the time and memory that runs with many prompts take to start and to end.

    python -m tests.chaos.scale start [prompts]
    python -m tests.chaos.scale resume [prompts] [rows a part]

`start` writes prompts of the length of GSM8K's, starts `jobs.generate` with scripted models in a
process of its own, and stops it once some rows are committed: seconds until the first task, and
the driver's memory (MiB) then and at the end.

`resume` commits the rows, then takes the steps of a resume in a process of its own: it reads the
status and the input, scans the folder and compacts it: seconds and peak memory (MiB) so far.

The last line is JSON.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from nabla_core.types import Prompt
from pipeline.inputs.prompts import Item, fingerprint, index
from pipeline.run.status import run_status
from pipeline.store.checks.version import claim_version
from pipeline.store.slots import FINISHED, Slots
from tests.pipeline.rows import row, store_in

T = TypeVar("T")
PROMPTS = 100_000
ROWS = 5000
# 235 characters, the mean of GSM8K's questions.
QUESTION = "How many of the {n} eggs are left after a week? " + "She eats three each day. " * 7


def text(n: int) -> str:
    return QUESTION.format(n=n).ljust(235, ".")


def items(count: int) -> Iterator[Item]:
    for n in range(count):
        prompt = Prompt.of(text(n), id=f"gsm8k/train/{n:07d}", answer=str(n % 100))
        yield Item(prompt, fingerprint(prompt))


def start(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, run, log = (Path(folder) / name for name in ("prompts.jsonl", "run", "log"))
        with path.open("w") as file:
            for item in items(count):
                prompt = item.prompt
                values = {"id": prompt.id, "question": prompt.text, "answer": prompt.answer}
                file.write(json.dumps(values) + "\n")
        report: dict[str, float] = {"prompts": count, "index_bytes_a_prompt": index_bytes()}
        started = time.monotonic()
        driver = subprocess.Popen(
            [
                *(sys.executable, "-m", "jobs.generate", f"run_dir={run}", f"prompts.path={path}"),
                *(f"lm.path=scripted?log={log}", "decoding.method=sample", "store.flush_rows=64"),
                *("cluster.actors.min=2", "cluster.actors.max=2"),
            ],
            start_new_session=True,
        )
        try:
            wait_for(driver, lambda: log.exists() and log.stat().st_size > 0)
            report["first_task_s"] = round(time.monotonic() - started, 1)
            report["driver_cpu_s"] = round(cpu_seconds(driver.pid), 1)
            report["driver_mib"] = memory(driver.pid, "VmRSS")
            wait_for(driver, lambda: log.read_bytes().count(b"\n") >= ROWS)
            report["driver_peak_mib"] = memory(driver.pid, "VmHWM")
        finally:
            driver.send_signal(signal.SIGINT)
            driver.wait()
    print(json.dumps(report))


def wait_for(driver: "subprocess.Popen[bytes]", done: Callable[[], bool]) -> None:
    while not done():
        if driver.poll() is not None:
            raise SystemExit("the driver ended early")
        time.sleep(0.05)


def index_bytes() -> float:
    """Bytes a prompt of what the driver keeps of the input and its slots."""
    tracemalloc.start()
    slots = Slots(index(items(PROMPTS), "generated"), 1)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return round(held / len(slots), 1)


def memory(process: int, field: str) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) // 1024
    raise ValueError(field)


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resume(count: int, group: int) -> None:
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
            [sys.executable, "-m", "tests.chaos.scale", "steps", folder, str(count)], check=True
        )


def steps(folder: str, count: int) -> None:
    report: dict[str, float] = {"rows": count}

    def timed(name: str, work: Callable[[], T]) -> T:
        started = time.monotonic()
        result = work()
        report[f"{name}_s"] = round(time.monotonic() - started, 2)
        report[f"{name}_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return result

    store = store_in(folder)
    timed("start", lambda: None)
    claim_version(store.folder)
    store.write_expected(count)
    assert timed("status", lambda: run_status(folder)).finished == count
    inputs = timed("input", lambda: index(items(count), "generated"))
    slots = timed("scan", lambda: store.scan(inputs, 1))
    assert slots.count(FINISHED) == count
    checksums = timed("compact", lambda: store.compact(slots))
    timed("complete", lambda: store.mark_complete({"checksums": checksums}))
    print(json.dumps(report))


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:] or ["start"]
    if mode == "steps":
        steps(arguments[0], int(arguments[1]))
    elif mode == "resume":
        sizes = [int(argument) for argument in arguments]
        resume(*(sizes + [PROMPTS, 64][len(sizes) :]))
    else:
        start(int(arguments[0]) if arguments else PROMPTS)
