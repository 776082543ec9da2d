"""What the workers of a training agree on before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed

from nabla_core.types import Identity
from pipeline.store.checks.models_check import read_models, require_same, write_models
from pipeline.store.files import Folder


def use_cpus(cpus: float) -> None:
    """Let torch compute with the CPUs that a worker has reserved."""
    # Ray would leave it at one thread, or at what OMP_NUM_THREADS says.
    torch.set_num_threads(max(1, int(cpus)))


def all_workers(ready: bool, world: int, device: torch.device) -> bool:
    """Whether all workers are ready. All of them learn it together, so that none waits in a
    collective operation for one that has ended."""
    if world == 1:
        return ready
    flag = torch.tensor(float(ready), device=device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN)
    return bool(flag)


def sum_over_workers(values: Sequence[float]) -> list[float]:
    """Sums of numbers over all workers; every worker must call it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return list(values)
    # float64: FLOPs of a long training have more digits than float32 keeps.
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    total = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(total)
    found: list[float] = total.tolist()
    return found


def agree_on_models(models: Mapping[str, Identity], folder: Folder, rank: int, world: int) -> None:
    """Write the models that the driver could not see. Raises ModelError where the workers have
    loaded different ones."""
    if world > 1:
        loaded: list[Any] = [None] * world
        torch.distributed.all_gather_object(loaded, dict(models))
        require_same(folder, loaded[0], models)
    if rank == 0:
        write_models(folder, {**models, **read_models(folder)})
