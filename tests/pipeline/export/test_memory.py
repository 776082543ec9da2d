"""An export keeps no row in memory: what it keeps of a trace is bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.export import SETTINGS, WORDS, synthetic_run

ROOT = Path(__file__).parents[3]
# Near duplicates are found in blocks of 16,384 signatures: with filters both runs fill one.
SIZES = {"plain": (2_000, 22_000), "filters": (20_000, 40_000)}
# The index has 41 bytes of a trace, and sorting it takes 190 more for a moment. Readers and writers
# hold chunks, whose number does not grow: 24 MiB are for those and for the allocator. A row of
# these traces takes 5,000 bytes in memory.
BYTES_A_TRACE, CHUNKS_MIB = 231, 24


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("filters", SETTINGS)
def test_memory_grows_by_the_index_alone(tmp_path, filters):
    benchmark = tmp_path / "benchmark.jsonl"
    benchmark.write_text(json.dumps({"question": " ".join(WORDS[:100])}) + "\n")
    peaks = []
    small, large = SIZES[filters]
    for rows in (small, large):
        synthetic_run(tmp_path / f"run-{rows}", rows)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.bench.export", "--measure"),
                *(str(tmp_path / f"run-{rows}"), str(tmp_path / f"out-{rows}"), filters),
                str(benchmark),
            ],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["kept"] == (rows if filters == "plain" else rows // 2)
        peaks.append(found["peak_mib"])
    allowed = CHUNKS_MIB + (large - small) * BYTES_A_TRACE / 2**20
    assert peaks[1] - peaks[0] < allowed, peaks
