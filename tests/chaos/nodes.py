"""A Ray cluster of several nodes on this machine, whose processes can be killed.

Ray chooses the ports and the cluster has a folder of its own, so that other clusters on the
machine are not disturbed.
"""

import os
import random
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster

# Ray detects a dead node within three seconds instead of twelve, and waits thirty for a slow one.
# Workers keep their priority (niceness 0): other work on the machine would starve them.
FAST_DETECTION = {
    "worker_niceness": 0,
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 300,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 10,
}
NODE = {"num_cpus": 3, "object_store_memory": 80 << 20, "include_dashboard": False}


class Nodes:
    """A head node, where drivers and ledgers run, and `workers` further nodes."""

    def __init__(self, workers: int = 2) -> None:
        self._workers = workers
        self._folder = tempfile.TemporaryDirectory(prefix="r", dir="/tmp")
        os.environ["RAY_TMPDIR"] = self._folder.name  # sockets: the path must be short
        (Path(self._folder.name) / "ray").mkdir()
        self._start()

    @property
    def address(self) -> str:
        """The address that drivers join."""
        return str(self._cluster.address)

    def processes(self, only: Any = None) -> dict[str, list[psutil.Process]]:
        """Ray's worker processes by role: actors of the pool, ledgers, and all others; those of
        all nodes or of one."""
        found: dict[str, list[psutil.Process]] = {"actor": [], "ledger": [], "worker": []}
        for node in [only] if only else [self._cluster.head_node, *self._cluster.worker_nodes]:
            for process in _children(node):
                with suppress(psutil.Error, IndexError):
                    title = process.cmdline()[0]
                    if title.startswith("ray::"):
                        found[_kind(title)].append(process)
        return found

    def random_node(self, rng: random.Random) -> Any:
        """A node other than the head."""
        return rng.choice(sorted(self._cluster.worker_nodes, key=lambda node: node.unique_id))

    def raylet(self, node: Any) -> psutil.Process:
        """Ray's own process on a node."""
        return _raylet(node)

    def kill_node(self, node: Any) -> None:
        """SIGKILL the raylet of a node, and start another node. The workers of the dead one end by
        themselves."""
        self._cluster.remove_node(node, allow_graceful=False)
        self._join()

    def head_is_alive(self) -> bool:
        """Whether the head node still runs. It ends by itself where the machine is too busy for
        Ray, and its drivers end with it."""
        return not self._cluster.head_node.dead_processes()

    def replace_dead_nodes(self) -> None:
        """Start a new node for each node other than the head that ended by itself."""
        for node in list(self._cluster.worker_nodes):
            if node.dead_processes():
                self._cluster.remove_node(node, allow_graceful=False)
                self._join()

    def kill_cluster(self) -> None:
        """SIGKILL the head and every node, and start a new cluster. Its address is another."""
        self._stop()
        self._start()

    def close(self) -> None:
        """Kill the cluster and delete its folder."""
        self._stop()
        self._folder.cleanup()

    def _start(self) -> None:
        self._cluster = Cluster()
        self._join(_system_config=FAST_DETECTION)
        for _ in range(self._workers):
            self._join()

    def _join(self, **more: Any) -> None:
        """Add a node. On a busy machine it may not start within Ray's 30 s."""
        for _ in range(5):
            try:
                self._cluster.add_node(wait=False, **NODE, **more)
            except Exception as error:  # noqa: BLE001 - Ray raises no narrower one
                print(f"a node did not start: {error}", flush=True)
            else:
                return
        raise RuntimeError("no node starts on this machine")

    def _stop(self) -> None:
        nodes = [*self._cluster.worker_nodes, self._cluster.head_node]
        orphans = [process for node in nodes for process in _children(node)]
        for node in nodes:
            self._cluster.remove_node(node, allow_graceful=False)
        for process in orphans:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(orphans, timeout=30)
        assert not ray.is_initialized()


def _children(node: Any) -> list[psutil.Process]:
    try:
        return _raylet(node).children()
    except (KeyError, psutil.NoSuchProcess):
        return []


def _raylet(node: Any) -> psutil.Process:
    (raylet,) = node.all_processes["raylet"]
    return psutil.Process(raylet.process.pid)


def _kind(title: str) -> str:
    if "Ledger" in title:
        return "ledger"
    return "actor" if "Worker" in title else "worker"
