"""A driver is killed half way, and the same command with other settings finishes the run.

The engines count rollouts in a log; committed rows are read from the files.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import generate
from pipeline.run.status import RunState, RunStatus, run_status
from tests.chaos.comparison import count_differences, final_rows, rows_by_key

ROOT = Path(__file__).parents[2]
ROWS = 80
FIRST = ["cluster.in_flight=4", "runtime.max_batch=4"]
SECOND = [
    *("cluster.actors.min=2", "cluster.actors.max=2", "cluster.in_flight=3"),
    *("runtime.max_batch=2", "store.flush_rows=5", "store.rows_per_file=50"),
]


@dataclass(frozen=True, kw_only=True)
class Halfway:
    """What was observed. `observations` holds, for each look at the running run, the number of
    committed rows before it, what `jobs.status` reported, and the number of rows after it."""

    expected: list[dict]
    undisturbed_passes: int
    rows: list[dict]
    passes: int
    before: dict[tuple[str, int], object]
    second_driver: int
    driver: int
    observations: list[tuple[int, RunStatus, int]]


def committed(run: Path) -> dict[tuple[str, int], object]:
    """When each committed row was made."""
    found = {}
    for part in (run / "parts").glob("[!.]*.parquet"):
        table = pq.read_table(part, columns=["prompt_id", "sample", "created_at"])
        for prompt_id, sample, made in zip(*(c.to_pylist() for c in table.columns), strict=True):
            found[prompt_id, sample] = made
    return found


@pytest.fixture(scope="module")
def halfway(cluster, tmp_path_factory) -> Halfway:
    base = tmp_path_factory.mktemp("halfway")
    path = base / "prompts.jsonl"
    lines = [json.dumps({"prompt": f"question {n // 2}"}) + "\n" for n in range(ROWS)]
    path.write_text("".join(lines))

    def arguments(name: str, *more: str) -> list[str]:
        lm = f"lm.path=scripted?delay=0.1&log={base / name}.log"
        settings = ["decoding.nabla.max_rollouts=4", *more]
        return [f"run_dir={base / name}", f"prompts.path={path}", lm, *settings]

    def passes(name: str) -> int:
        log = base / f"{name}.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    assert generate.main(arguments("whole", *FIRST)) == 0
    run, observations = base / "run", []
    own = arguments("run", *FIRST, f"cluster.address={cluster}")
    command = [sys.executable, "-m", "jobs.generate", *own]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + 120
        second = 0
        while passes("run") < passes("whole") / 2:
            assert time.monotonic() < deadline
            assert driver.poll() is None
            if (run / "input.json").exists():
                status = (len(committed(run)), run_status(str(run)), len(committed(run)))
                observations.append(status)
                second = second or generate.main(arguments("run", *FIRST))
            time.sleep(0.1)
        driver.kill()
    time.sleep(3)  # workers of a dead driver may still commit
    before = committed(run)
    assert 0.25 * ROWS < len(before) < 0.75 * ROWS
    assert generate.main(arguments("run", *SECOND)) == 0
    return Halfway(
        expected=final_rows(base / "whole"),
        undisturbed_passes=passes("whole"),
        rows=final_rows(run),
        passes=passes("run"),
        before=before,
        second_driver=second,
        driver=driver.pid,
        observations=observations,
    )


def test_a_run_killed_half_way_costs_at_most_a_tenth_more(halfway):
    assert halfway.undisturbed_passes > 2 * ROWS
    assert halfway.passes <= 1.1 * halfway.undisturbed_passes


def test_other_actors_batches_and_flushing_finish_with_the_same_rows(halfway):
    found = count_differences(rows_by_key(halfway.expected), rows_by_key(halfway.rows))
    assert found == {"lost": 0, "duplicated": 0, "unexpected": 0, "altered": 0}
    assert len(halfway.rows) == ROWS


def test_what_was_committed_stays_as_it_is(halfway):
    after = {(row["prompt_id"], row["sample"]): row["created_at"] for row in halfway.rows}
    assert {key: after[key] for key in halfway.before} == halfway.before


def test_repeated_prompts_are_rows_of_their_own(halfway):
    questions = [row["question"] for row in halfway.rows]
    assert all(questions.count(question) == 2 for question in questions)
    assert len({row["prompt_id"] for row in halfway.rows}) == ROWS


def test_a_second_driver_is_refused(halfway):
    assert halfway.second_driver == 2


def test_the_status_of_a_running_run_is_what_its_folder_holds(halfway):
    assert len(halfway.observations) > 3
    for before, status, after in halfway.observations:
        assert before <= status.finished + status.dead <= after
        assert status.rows == ROWS
        assert status.state is RunState.RUNNING
        assert status.holder.startswith(f"process {halfway.driver} on ")
