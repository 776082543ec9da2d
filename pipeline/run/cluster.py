"""Where the workers run. Imports ray only once it is needed."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.errors import ConfigError, RunError


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
    def joined(self) -> str | None:
        """The address of the Ray that is joined; None where one is started for the run."""
        return self.address or os.environ.get("RAY_ADDRESS")


@contextmanager
def connected(settings: Cluster, cpus: float = 0.0) -> Iterator[None]:
    """Ray for the duration of the block: joined, started (with so many `cpus` at least), or
    already there."""
    import ray  # noqa: PLC0415 - settings are parsed without it

    if ray.is_initialized():
        yield
        return
    # Threads of Ray Data that outlive the run must not start another Ray.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    address = settings.joined
    with _signals_kept():
        if address:
            try:
                ray.init(address=address)
            # Other versions of Ray or Python there, or an address that is none.
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise RunError(f"cannot join the Ray cluster at {address}: {error}") from error
        else:
            actors = settings.actors.max * settings.cpus_per_actor
            ray.init(
                address="local",
                num_cpus=max(os.cpu_count() or 1, math.ceil(actors), math.ceil(cpus)),
                include_dashboard=False,
                object_store_memory=256 << 20,
                logging_level="error",
                # Ray's helpers ask a dashboard that is not there, and say so every second.
                log_to_driver=False,
            )
    try:
        yield
    finally:
        ray.shutdown()


def need_room(what: str, cpus: float, gpus: float) -> None:
    """Raises ConfigError where a Ray started for the run has no room for `what`: no node will
    join it, and Ray would wait for one without end. Call it inside `connected`."""
    import ray  # noqa: PLC0415 - as above

    there = ray.cluster_resources()
    for kind, needed in (("CPU", cpus), ("GPU", gpus)):
        if needed > there.get(kind, 0.0):
            raise ConfigError(
                f"{what} needs {needed:g} {kind}, and Ray has {there.get(kind, 0.0):g} here; "
                "an address joins a cluster"
            )


def has_room(cpus: float, gpus: float) -> bool:
    """Whether any node of the cluster has so much, free or not."""
    import ray  # noqa: PLC0415 - as above

    needed = (("CPU", cpus), ("GPU", gpus))
    return any(
        node["Alive"] and all(node["Resources"].get(kind, 0.0) >= least for kind, least in needed)
        for node in ray.nodes()
    )


def node_alive(node: str) -> bool:
    """Whether a node of the cluster lives, as far as its head knows."""
    import ray  # noqa: PLC0415 - as above

    return any(found["NodeID"] == node and found["Alive"] for found in ray.nodes())


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself, and would end the process without a last flush."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as ended:  # a SIGTERM that came while it was Ray's
        raise KeyboardInterrupt from ended
    finally:
        signal.signal(signal.SIGTERM, before)
