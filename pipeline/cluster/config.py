"""Settings of the workers and of the Ray cluster they run on. Nothing here imports ray."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from pipeline.durations import check_seconds


@dataclass(frozen=True)
class Actors:
    """The size of the pool, which grows while there is work for more actors.

    Attributes:
        min (actors): Actors at the start.
        max (actors): Actors at most.
    """

    min: int = 1
    max: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.max:
            raise ValueError(
                f"cluster.actors: need 1 <= min <= max, got min={self.min} max={self.max}"
            )


@dataclass(frozen=True)
class Cluster:
    """A pool of actors on Ray, each with all the models.

    Attributes:
        address: The address of a running Ray. null joins the one in RAY_ADDRESS (which `ray job
            submit` sets), or starts a local Ray for the run.
        actors: The size of the pool.
        cpus_per_actor (CPUs): CPUs that an actor reserves.
        gpus_per_actor (GPUs): GPUs that an actor reserves; below 1, actors share one.
        in_flight (prompts): Prompts that an actor works on at a time. About three times
            `runtime.max_batch` keeps batches full.
        hang_seconds (s): An actor is restarted after this time without progress of its engines.
        scheduling_timeout_s (s): A local Ray that can place no actor for this time is restarted,
            once, before the run begins; after this time again the run ends. With an address the run
            goes on waiting, since nodes may join.
        load_seconds (s): An actor is restarted where it has not loaded its models after this time.
        worker_niceness: The niceness of the workers of a local Ray, 0 to 19. Ray's own default is
            15: beside other work on the machine its workers then starve. A Ray that is joined
            has been started with a niceness of its own (RAY_worker_niceness).
    """

    address: str | None = None
    actors: Actors = field(default_factory=Actors)
    cpus_per_actor: float = 1.0
    gpus_per_actor: float = 0.0
    in_flight: int = 96
    hang_seconds: float = 600.0
    scheduling_timeout_s: float = 60.0
    load_seconds: float = 1800.0
    worker_niceness: int = 0

    def __post_init__(self) -> None:
        if self.in_flight < 1:
            raise ValueError(f"cluster.in_flight must be at least 1, got {self.in_flight}")
        for name in ("cpus_per_actor", "gpus_per_actor"):
            if getattr(self, name) < 0:
                raise ValueError(f"cluster.{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.worker_niceness <= 19:
            raise ValueError(
                f"cluster.worker_niceness must be from 0 to 19, got {self.worker_niceness}"
            )
        for name in ("hang_seconds", "scheduling_timeout_s", "load_seconds"):
            check_seconds(f"cluster.{name}", getattr(self, name))

    @property
    def ray_address(self) -> str | None:
        """The address of the Ray to join; None where a local Ray is started for the run."""
        return self.address or os.environ.get("RAY_ADDRESS")
