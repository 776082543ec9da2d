"""A benchmark that is asked for help tells what it does, and runs nothing."""

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parent
ROOT = BENCH.parents[1]


def test_every_benchmark_has_help():
    started = 'if __name__ == "__main__":'
    programs = [p for p in BENCH.rglob("*.py") if p.name != "test_help.py"]
    programs = [program for program in programs if started in program.read_text()]
    assert len(programs) > 15
    silent = [
        program.relative_to(BENCH).as_posix()
        for program in programs
        if "show_help(__doc__)" not in (text := program.read_text())
        and "ArgumentParser(" not in text
        and "run_script(" not in text
    ]
    assert not silent


def test_help_runs_nothing():
    command = [sys.executable, "-m", "tests.bench.pipeline.digest", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert "python -m tests.bench.pipeline.digest" in done.stdout
