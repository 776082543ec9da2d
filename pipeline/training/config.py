"""Settings of the workers of a training. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass

from nabla_core.config import check
from pipeline.durations import check_seconds


@dataclass(frozen=True)
class Workers:
    """The processes that train.

    Attributes:
        count (processes): Workers; with several, each computes its share of a batch.
        address: The Ray cluster to join, as in `cluster.address`.
        cpus (CPUs): CPUs that a worker reserves.
        gpu: Whether each worker uses one GPU.
        max_failures (failures): After the death of a worker training continues from its last
            checkpoint, this often at most; -1: without limit.
        scheduling_timeout_s (s): The run ends where the cluster cannot place the workers within
            this time.
        lease_seconds (s): Another driver may take over the run folder after this time without a
            sign of this one.
    """

    count: int = 1
    address: str | None = None
    cpus: float = 1.0
    gpu: bool = False
    max_failures: int = 2
    scheduling_timeout_s: float = 1800.0
    lease_seconds: float = 30.0

    def __post_init__(self) -> None:
        check(self.count >= 1, f"workers.count must be at least 1, got {self.count}")
        failures = self.max_failures
        check(failures >= -1, f"workers.max_failures must be at least -1, got {failures}")
        check(self.cpus > 0, f"workers.cpus must be above 0, got {self.cpus}")
        for name in ("scheduling_timeout_s", "lease_seconds"):
            check_seconds(f"workers.{name}", getattr(self, name))
