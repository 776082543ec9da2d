"""Joining or starting Ray, and the resources of its nodes."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from pipeline.errors import ConfigError, RunError
from pipeline.run.cluster_config import Cluster


@contextmanager
def connected(settings: Cluster, cpus: float = 0.0) -> Iterator[None]:
    """A block in which Ray is available.

    Uses the Ray that this process already has, joins the one at `settings.ray_address`, or
    starts a local one with at least `cpus` CPUs and enough for all actors. Raises RunError where
    the address cannot be joined.
    """
    if ray.is_initialized():
        yield
        return
    # Threads of Ray Data can outlive the run. Without this they would start another Ray.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    address = settings.ray_address
    with _sigterm_restored():
        if address:
            try:
                ray.init(address=address)
            # The cluster has another version of Ray or Python, or the address is malformed.
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
                # Without a dashboard Ray's helpers log a failed connection every second.
                log_to_driver=False,
            )
    try:
        yield
    finally:
        ray.shutdown()


def require_resources(purpose: str, cpus: float, gpus: float) -> None:
    """Raises ConfigError where Ray has too few CPUs or GPUs for `purpose`.

    For a Ray that was started for this run: no node will join it, and Ray would wait for one
    for ever. Call it inside `connected`.
    """
    available = ray.cluster_resources()
    for kind, needed in (("CPU", cpus), ("GPU", gpus)):
        if needed > available.get(kind, 0.0):
            raise ConfigError(
                f"{purpose} needs {needed:g} {kind}, and Ray has {available.get(kind, 0.0):g} "
                "here; an address joins a cluster"
            )


def any_node_has(cpus: float, gpus: float) -> bool:
    """Whether one node of the cluster has that many CPUs and GPUs, free or in use."""
    needed = (("CPU", cpus), ("GPU", gpus))
    return any(
        node["Alive"] and all(node["Resources"].get(kind, 0.0) >= amount for kind, amount in needed)
        for node in ray.nodes()
    )


def node_alive(node: str) -> bool:
    """Whether a node of the cluster is alive, as far as the cluster's head knows."""
    return any(entry["NodeID"] == node and entry["Alive"] for entry in ray.nodes())


@contextmanager
def _sigterm_restored() -> Iterator[None]:
    """Keep the handler of SIGTERM. `ray.init` installs its own, which would end the process
    before the workers commit the rows that wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as ended:  # SIGTERM came while Ray's handler was installed
        raise KeyboardInterrupt from ended
    finally:
        signal.signal(signal.SIGTERM, before)
