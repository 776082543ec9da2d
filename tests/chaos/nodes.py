"""A Ray cluster of several nodes on this machine, and processes of it to kill.

Ports are Ray's choice, files lie in a folder of its own, so other clusters on the machine
notice nothing.
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

# A dead node is noticed within three seconds instead of twelve; a slow one is given thirty.
# Workers are not niced: other work on the machine would starve them.
FAST = {
    "worker_niceness": 0,
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 300,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 10,
}
NODE = {"num_cpus": 3, "object_store_memory": 80 << 20, "include_dashboard": False}


class Nodes:
    """A head, where drivers and ledgers live, and `workers` further nodes."""

    def __init__(self, workers: int = 2) -> None:
        self._workers = workers
        self._folder = tempfile.TemporaryDirectory(prefix="r", dir="/tmp")
        os.environ["RAY_TMPDIR"] = self._folder.name  # sockets: the path must be short
        (Path(self._folder.name) / "ray").mkdir()
        self._start()

    @property
    def address(self) -> str:
        """What drivers join."""
        return str(self._cluster.address)

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Ray's processes by what they do: actors of the pool, the ledger, other workers."""
        found: dict[str, list[psutil.Process]] = {"actor": [], "ledger": [], "worker": []}
        for node in [self._cluster.head_node, *self._cluster.worker_nodes]:
            for process in _children(node):
                with suppress(psutil.Error, IndexError):
                    title = process.cmdline()[0]
                    if title.startswith("ray::"):
                        found[_kind(title)].append(process)
        return found

    def lose_node(self, rng: random.Random) -> None:
        """SIGKILL the raylet of a node; its workers notice by themselves. Another joins."""
        nodes = sorted(self._cluster.worker_nodes, key=lambda node: node.unique_id)
        self._cluster.remove_node(rng.choice(nodes), allow_graceful=False)
        self._join()

    def head_lives(self) -> bool:
        """Whether the node that drivers are attached to has not ended by itself, as it does
        where this machine is too busy for Ray. A driver ends with it."""
        return not self._cluster.head_node.dead_processes()

    def mend(self) -> None:
        """Replace other nodes that ended by themselves."""
        for node in list(self._cluster.worker_nodes):
            if node.dead_processes():
                self._cluster.remove_node(node, allow_graceful=False)
                self._join()

    def lose_all(self) -> None:
        """SIGKILL the head and every node; a new cluster, with another address."""
        self._stop()
        self._start()

    def close(self) -> None:
        """End everything."""
        self._stop()
        self._folder.cleanup()

    def _start(self) -> None:
        self._cluster = Cluster()
        self._join(_system_config=FAST)
        for _ in range(self._workers):
            self._join()

    def _join(self, **more: Any) -> None:
        """Add a node. Where the machine is busy, it may not come up within Ray's 30 s."""
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
        (raylet,) = node.all_processes["raylet"]
        return psutil.Process(raylet.process.pid).children()
    except (KeyError, psutil.NoSuchProcess):
        return []


def _kind(title: str) -> str:
    if "Ledger" in title:
        return "ledger"
    return "actor" if "Worker" in title else "worker"
