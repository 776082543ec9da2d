"""What workers of a training have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from pipeline.training import trainer_worker
from pipeline.training.group import use_cpus


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (1.0, 1), (3.0, 3)])
def test_a_worker_computes_with_the_cpus_that_it_reserves(cpus: float, threads: int) -> None:
    use_cpus(cpus)
    assert torch.get_num_threads() == threads


def test_a_worker_of_a_trainer_has_them_before_it_loads_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[int] = []

    def context() -> Any:
        found.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer_worker.ray.train, "get_context", context)
    with pytest.raises(KeyboardInterrupt):
        trainer_worker.train("unused", "distill", (), lambda *_: pytest.fail("too late"), cpus=3)
    assert found == [3]
