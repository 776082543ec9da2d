"""Settings that must hold before torch and transformers are imported, and tiny models."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.core.tiny import Family

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray would lower the priority of its workers by 15, and other work on the machine would starve
# them.
os.environ.setdefault("RAY_worker_niceness", "0")
# This watcher is a further process beside every training, for machines that may be preempted.
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")

# The same examples in every run, and no deadline, because other work may share the machine.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")


# `pytest -n 2 --dist loadfile` hands out files in this order, the slowest first, so that both
# processes end together, then all others. Two files that only compute come before any that starts
# Ray: a busy machine delays them and breaks nothing, while `make test` still checks types.
SLOW_FILES = (
    *("oracle/test_equality.py", "invariants/test_same_traces.py", "chaos/test_schedule.py"),
    *(
        "jobs/test_train_guide.py",
        "jobs/test_distill.py",
        "jobs/test_generate.py",
        "jobs/test_improve.py",
    ),
    *("chaos/test_runs.py", "pipeline/duality/tokens/test_checks.py", "jobs/test_submit.py"),
    *("chaos/test_halfway.py", "pipeline/duality/language/test_checks.py"),
    *("pipeline/duality/tokens/test_policies.py", "pipeline/duality/checkpoints/test_checks.py"),
    "jobs/test_own.py",
    *("jobs/test_tune.py", "pipeline/duality/test_pieces.py", "core/test_isolation.py"),
    *("core/guide_training/test_trainees.py", "jobs/test_models.py", "jobs/test_demo.py"),
    *("pipeline/duality/test_stage.py", "core/embedded/test_weights.py", "chaos/test_s3.py"),
    *("pipeline/duality/continuous/test_checks.py", "chaos/test_commit_points.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    place = {tests / name: number for number, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: place.get(item.path, len(SLOW_FILES)))


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
def explored(plain: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of counterfactuals of the plain family; its prompts are beside it."""
    from tests.pipeline.train_guide.exploration import explored_folder  # noqa: PLC0415 - torch

    return explored_folder(plain, tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """One local Ray for all tests in this process; gives its address, for drivers in processes
    of their own. It has two logical CPUs: two actors fill it, and nothing else may need one."""
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
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts the tests and what they start, also where a shell has started them in the
    background: it lets such processes ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
