"""Joining or starting Ray, and the resources of its nodes."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.cluster.config import Cluster
from pipeline.cluster.local_ray import LocalRay
from pipeline.errors import ConfigError, RunError

CONNECT_SECONDS = 10.0
# For the process of a placed task to start, on a machine that is busy.
START_SECONDS = 300.0
LOG = logging.getLogger(__name__)


@dataclass
class _Session:
    """How this process uses Ray.

    `shared` holds the arguments of the enclosing `shared` block. `local` is the Ray that this
    process started, with `local_cpus` CPUs and workers of `local_niceness`; None where it started
    none.
    """

    shared: tuple[Cluster, float] | None = None
    local: LocalRay | None = None
    local_cpus: int = 0
    local_niceness: int = 0


_SESSION = _Session()


@contextmanager
def connected(settings: Cluster, cpus: float = 0.0) -> Iterator[None]:
    """A block in which Ray is available.

    Uses the Ray that this process already has, joins the one at `settings.ray_address`, or
    starts a local one with at least `cpus` CPUs and enough for all actors. Raises RunError in one
    line where that fails twice.
    """
    if ray.is_initialized():
        yield
        return
    _connect(*(_SESSION.shared or (settings, cpus)))
    try:
        yield
    finally:
        if _SESSION.shared is None:
            _disconnect()


@contextmanager
def shared(settings: Cluster, cpus: float = 0.0) -> Iterator[None]:
    """A block whose `connected` blocks use one Ray, with these settings: the first of them
    connects, and the end of this block disconnects. Without any of them no Ray is started."""
    if ray.is_initialized():
        yield
        return
    _SESSION.shared = (settings, cpus)
    try:
        yield
    finally:
        _SESSION.shared = None
        _disconnect()


@contextmanager
def translate_ray_errors() -> Iterator[None]:
    """Turn an error of Ray in the block (an actor of ours that is gone for ever, a node that was
    lost) into a RunError of one line."""
    try:
        yield
    except RayError as error:
        raise RunError(
            f"Ray was lost while it worked for this run ({type(error).__name__}: "
            f"{_reason(error)}): what is committed stays, and the same command continues"
        ) from error


def _reason(error: BaseException) -> str:
    """What happened, of a message that may tell the actor, its node and a history of tasks too."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = (line for line in lines if "because" in line or "died" in line)
    return next(told, lines[0] if lines else "no reason is given").rstrip(".")


def restart_local() -> bool:
    """Replace the local Ray that this process started by a new one. False where the Ray in use was
    not started by this process: it may serve others.

    No dataset may be in execution: threads of Ray Data would meet another Ray, or none.
    """
    if _SESSION.local is None:
        return False
    cpus, niceness = _SESSION.local_cpus, _SESSION.local_niceness
    _disconnect()
    _twice("cannot start a local Ray", lambda: _start_local(cpus, niceness))
    return True


def _connect(settings: Cluster, cpus: float) -> None:
    # Threads of Ray Data can outlive the run. Without this they would start another Ray.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    address = settings.ray_address
    if address:
        failure = f"cannot join the Ray cluster at {address}"
        _twice(failure, lambda: _join(address))
    else:
        actors = settings.actors.max * settings.cpus_per_actor
        niceness = settings.worker_niceness
        count = max(os.cpu_count() or 1, math.ceil(actors), math.ceil(cpus))
        _twice("cannot start a local Ray", lambda: _start_local(count, niceness))


def _join(address: str) -> None:
    # Where nothing answers, ray.init itself tries for a quarter of an hour.
    host, _, port = address.rpartition(":")
    if port.isdigit() and "://" not in address:
        _reach(host, int(port))
    ray.init(address=address)


def _reach(host: str, port: int) -> None:
    """Raises OSError where no host accepts a connection there."""
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError:
        if host not in ("localhost", "127.0.0.1"):
            raise
        # Ray reads these names as the address of the node.
        node = ray.util.get_node_ip_address()
        socket.create_connection((node, port), CONNECT_SECONDS).close()


def _start_local(cpus: int, niceness: int) -> None:
    _SESSION.local = LocalRay(cpus, niceness)
    _SESSION.local_cpus, _SESSION.local_niceness = cpus, niceness


def _twice(failure: str, init: Callable[[], Any]) -> None:
    """Call `init`, and after an error once more. Raises RunError of one line.

    On a busy machine a part of Ray may be up too late for the others; then the second call
    succeeds.
    """
    for last in (False, True):
        try:
            with _sigterm_restored():
                init()
        # Any: ray.init raises bare Exceptions too, where a part of it does not come up in time.
        except Exception as error:
            _disconnect()  # of the parts that are up
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            # A malformed address, or two versions that do not fit, stay what they are.
            if last or isinstance(error, ValueError):
                raise RunError(f"{failure}: {reason}") from error
            LOG.warning("%s: %s; trying again", failure, reason)
        except BaseException:
            _disconnect()
            raise
        else:
            return


def _disconnect() -> None:
    """Leave Ray, and end the one that this process started."""
    local, _SESSION.local = _SESSION.local, None
    if local is None:
        ray.shutdown()
    else:
        local.stop()


def can_place(cpus: float, gpus: float, seconds: float) -> bool:
    """Whether Ray places a task with these resources within `seconds`. The process of the task
    then serves the first actor."""
    before = free_resources()
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_nothing).remote()
    ended, _ = ray.wait([task], timeout=seconds)
    if not ended and any(free < before[kind] for kind, free in free_resources().items()):
        # It is placed: its resources are reserved, and its process starts.
        ended, _ = ray.wait([task], timeout=START_SECONDS)
    if not ended:
        ray.cancel(task)
    return bool(ended)


def _nothing() -> None:
    return


def free_resources() -> dict[str, float]:
    """CPUs and GPUs of Ray that nobody has reserved. Raises RunError where Ray does not answer."""
    found: dict[str, float] = _asked(ray.available_resources)
    return {kind: found.get(kind, 0.0) for kind in ("CPU", "GPU")}


def _asked(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except Exception as error:
        raise RunError(f"Ray does not answer: {error}") from error


def require_resources(purpose: str, cpus: float, gpus: float) -> None:
    """Raises ConfigError where Ray has too few CPUs or GPUs for `purpose`.

    For a Ray that was started for this run: no node will join it, and Ray would wait for one
    for ever. Call it inside `connected`.
    """
    available: dict[str, float] = _asked(ray.cluster_resources)
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
        for node in _asked(ray.nodes)
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
