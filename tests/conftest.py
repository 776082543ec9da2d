"""Settings that must hold before torch and transformers are imported, and tiny models."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.core.tiny import Family

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray's workers are niced by 15, and would starve where other work shares the machine.
os.environ.setdefault("RAY_worker_niceness", "0")
# A process of its own beside every training, for machines that are about to be taken away.
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")

# The same examples in every run, and no clock: other work shares the machine.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")


# Two processes take turns at these files. Runs on Ray, which wait much, go with what computes all
# the time, and what is short comes last, so that both end together.
LONG = (
    *("test_schedule", "test_equality", "test_improve", "test_embedded", "test_submit"),
    *("test_guides", "test_embedded_weights", "test_runs", "test_stage", "test_halfway"),
    *("test_policies", "test_generate", "test_same_traces", "test_policy"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    turns = {name: turn for turn, name in enumerate(LONG)}
    items.sort(key=lambda item: turns.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Qwen2 models that share one vocabulary, without a chat template."""
    from tests.core import tiny  # noqa: PLC0415 - imports torch

    return tiny.plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="session")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A Llama LM and Qwen2 reward models: other shapes, other vocabularies, a chat template."""
    from tests.core import tiny  # noqa: PLC0415 - imports torch

    return tiny.grouped(tmp_path_factory.mktemp("grouped"))


@pytest.fixture(scope="session", params=["plain", "grouped"])
def family(request: pytest.FixtureRequest) -> Family:
    """Each family in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """One local Ray for all tests of jobs in this process; its address, for drivers in processes
    of their own. Two logical CPUs: two actors, and nothing may need another beside them."""
    import ray  # noqa: PLC0415 - slow to import, and many tests do without

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=128 << 20,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture
def prompts(tmp_path: Path) -> Callable[..., Path]:
    """Writes prompts, one text each, with ids p0, p1...; returns the file."""

    def write(*texts: str, name: str = "prompts.jsonl") -> Path:
        path = tmp_path / name
        rows = [{"id": f"p{n}", "prompt": text} for n, text in enumerate(texts)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def job(cluster: str, tmp_path: Path) -> Callable[..., int]:
    """Runs `jobs.generate` on scripted engines; returns the exit code."""
    from jobs import generate  # noqa: PLC0415 - as above

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
