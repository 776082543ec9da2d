"""One local Ray for all tests of jobs, and the job run in this process upon it."""

import json
import logging
from pathlib import Path

import pytest
import ray

from jobs import generate


@pytest.fixture(scope="session")
def cluster():
    """Four logical CPUs: two actors and what Ray Data needs beside them."""
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=128 << 20,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture
def prompts(tmp_path):
    """Writes prompts, one text each, with ids p0, p1...; returns the file."""

    def write(*texts: str, name: str = "prompts.jsonl") -> Path:
        path = tmp_path / name
        rows = [{"id": f"p{n}", "prompt": text} for n, text in enumerate(texts)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def job(cluster, tmp_path):
    """Runs `jobs.generate` on scripted engines; returns the exit code."""

    def run(path: Path, *more: str, lm: str = "scripted", actors: int = 1) -> int:
        return generate.main(
            [
                f"run_dir={tmp_path / 'run'}",
                f"prompts.path={path}",
                f"lm.path={lm}",
                f"cluster.actors.min={actors}",
                f"cluster.actors.max={actors}",
                *more,
            ]
        )

    return run
