"""Settings of the workers and of the Ray cluster they run on. Nothing here imports ray."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Actors:
    """The pool grows from `min` to `max` actors while there is work for more."""

    min: int = 1
    max: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.max:
            raise ValueError(
                f"cluster.actors: need 1 <= min <= max, got min={self.min} max={self.max}"
            )


@dataclass(frozen=True)
class Cluster:
    """A pool of actors, each with all the models and `in_flight` prompts at once.

    `address` is that of a running Ray; without one the address in RAY_ADDRESS (set inside
    `ray job submit`) is joined, and where there is none a local Ray is started for the run.
    `in_flight` about three times `runtime.max_batch` keeps batches full. An actor whose
    engine has not moved for `hang_seconds` is restarted; so is one that is not ready after
    `load_seconds`.
    """

    address: str | None = None
    actors: Actors = field(default_factory=Actors)
    cpus_per_actor: float = 1.0
    gpus_per_actor: float = 0.0
    in_flight: int = 96
    hang_seconds: float = 600.0
    load_seconds: float = 1800.0

    def __post_init__(self) -> None:
        if self.in_flight < 1:
            raise ValueError(f"cluster.in_flight must be at least 1, got {self.in_flight}")
        for name in ("cpus_per_actor", "gpus_per_actor"):
            if getattr(self, name) < 0:
                raise ValueError(f"cluster.{name} must be at least 0, got {getattr(self, name)}")
        for name in ("hang_seconds", "load_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"cluster.{name} must be above 0, got {getattr(self, name)}")

    @property
    def ray_address(self) -> str | None:
        """The address of the Ray to join; None where a local Ray is started for the run."""
        return self.address or os.environ.get("RAY_ADDRESS")
