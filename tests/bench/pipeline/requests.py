"""Objects and requests of a run, by `store.flush_rows`.

    python -m tests.bench.pipeline.requests [prompts]

Computed for so many prompts (default: a million), on a local disk and in S3.
tests/chaos/test_requests.py compares the formula with the requests that a real S3 protocol server
receives. The last line is one JSON object.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass

from pipeline.store.compact import ROW_GROUP
from tests.bench.arguments import show_help

PAGE = 1000  # objects that one LIST or bulk DELETE names
ROWS_A_FILE = 50_000


@dataclass(frozen=True)
class Requests:
    """Counts of one undisturbed run, without start and lease. In S3, `gets` includes HEAD requests
    (Arrow asks for the size first), `lists` includes the listings with which Arrow looks for a
    missing file, and one `delete` names up to a thousand objects."""

    parts: int
    files: int
    puts: int
    gets: int
    lists: int
    deletes: int


def requests(rows: int, flush_rows: int, rows_a_file: int = ROWS_A_FILE) -> Requests:
    """Counts for rows that finish in about the order of the input."""
    parts = math.ceil(rows / flush_rows)
    files = math.ceil(rows / rows_a_file)
    pages = math.ceil(parts / PAGE)
    # The scan reads every part once. Compaction reads a part once for each row group of a final
    # file that the part has rows for.
    cuts = sum(
        cut % flush_rows != 0
        for start in range(0, rows, rows_a_file)
        for cut in range(start, min(start + rows_a_file, rows), ROW_GROUP)
    )
    reads = 2 * parts + cuts
    return Requests(
        parts,
        files,
        puts=parts + files + 3,  # the manifest, _SUCCESS, and Arrow's mark of the emptied folder
        gets=2 * reads + files + 1,
        lists=2 * pages + files + 2,
        deletes=pages,
    )


def main() -> None:
    show_help(__doc__)
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(f"{rows:,} prompts in one run, final files of {ROWS_A_FILE:,} rows\n")
    print("            at the end      while it runs")
    print("flush_rows     objects  parts   | S3:   PUT   GET+HEAD    LIST  DELETE | disk:  fsync")
    report = {}
    for flush_rows in (1, 8, 64):
        found = requests(rows, flush_rows)
        fsyncs = 2 * (found.parts + found.files + 1)
        print(
            f"{flush_rows:>10}  {found.files:>10,} {found.parts:>9,} {found.puts:>10,} "
            f"{found.gets:>10,} {found.lists:>7,} {found.deletes:>7,} {fsyncs:>13,}"
        )
        report[f"flush_rows_{flush_rows}"] = {**vars(found), "local_fsyncs": fsyncs}
    print(json.dumps({"prompts": rows, **report}))


if __name__ == "__main__":
    main()
