"""Prompt files that are mutated at random: tracebacks, hangs and silent changes.

    python -m tests.bench.prompts.fuzz --cases 10000 --seed 0

JSON Lines, JSON lists, CSV and TSV, some of them compressed, Parquet files with flipped bits, and
columns of every type of Arrow. Each file is read in a process that may die. Prints what was found,
and counts; the last line is one JSON object. Equal seeds give equal files.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from types import FrameType

from pipeline.errors import InputError
from pipeline.inputs.prompts import Prompts, read
from pipeline.printable import visible
from tests.bench.prompts.cases import case

SECONDS = 20
CHUNK = 250


class _HangError(BaseException):
    """A file took more than `SECONDS` to read."""


def outcome(seed: int, number: int, folder: Path) -> tuple[str, str]:
    """What became of a case: read, refused, or a finding with its description."""
    made = case(seed, number)
    path = folder / made.name
    path.write_bytes(made.data)
    prompts = []
    refused = ""
    try:
        for item in read(Prompts(path=str(path))):
            prompts.append(item.prompt)
    except InputError as error:
        refused = str(error)
    except _HangError:
        return "hang", f"{SECONDS} s"
    except BaseException:  # noqa: BLE001 - any other one is a finding
        return "traceback", traceback.format_exc(limit=-3)
    finally:
        path.unlink()
    if refused != visible(refused) or (refused and str(folder) not in refused):
        return "message", repr(refused)
    if changed := made.check(prompts):
        return "silent change", changed
    return ("refused", "") if refused else ("read", "")


def run_chunk(seed: int, first: int, count: int) -> list[tuple[int, str, str]]:
    """The outcomes of consecutive cases, with their numbers."""

    def hang(number: int, frame: FrameType | None) -> None:
        raise _HangError

    signal.signal(signal.SIGALRM, hang)
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            signal.alarm(SECONDS)
            outcomes.append((number, *outcome(seed, number, Path(folder))))
            signal.alarm(0)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    for first in range(options.first, options.first + options.cases, CHUNK):
        count = min(CHUNK, options.first + options.cases - first)
        # A process for each chunk: a reader of damaged files may end it.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                outcomes = pool.submit(run_chunk, options.seed, first, count).result()
            except BrokenProcessPool:
                outcomes = [(first, "crash", f"cases {first} to {first + count - 1}")]
        for number, kind, text in outcomes:
            counts[kind] += 1
            if kind not in ("read", "refused"):
                print(f"case {number}: {kind}: {text}")
    seconds = time.perf_counter() - started
    print(json.dumps({"cases": options.cases, **counts, "seconds": round(seconds)}))


if __name__ == "__main__":
    main()
