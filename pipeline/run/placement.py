"""Does Ray place an actor? A pool whose actors Ray never places would be waited for in vain.

Before the first round a task asks for the resources of an actor: where it is not placed, the local
Ray can be replaced, since nothing runs on it. During a round the ledger tells whether any actor of
the pool came up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pipeline.cluster.config import Cluster
from pipeline.cluster.connection import can_place, free_resources, restart_local
from pipeline.errors import PlacementError
from pipeline.run import pool


def require_placement(cluster: Cluster, note: Callable[[str], None]) -> None:
    """Wait until the local Ray can place an actor.

    After `scheduling_timeout_s` in vain a Ray that this process started is restarted, once.
    Raises PlacementError.
    """
    seconds = cluster.scheduling_timeout_s
    restarted = False
    while not can_place(cluster.cpus_per_actor, cluster.gpus_per_actor, seconds):
        error = _not_placed(cluster, seconds, free_resources())
        if restarted or not restart_local():
            raise error
        restarted = True
        note(f"{error}. The local Ray was restarted")


def _not_placed(cluster: Cluster, seconds: float, free: dict[str, float]) -> PlacementError:
    return PlacementError(
        f"Ray has placed no actor in {seconds:.0f} s: an actor needs "
        f"{cluster.cpus_per_actor:g} CPU and {cluster.gpus_per_actor:g} GPU (cluster), and "
        f"{free['CPU']:g} CPU and {free['GPU']:g} GPU are free"
    )


class Placement:
    """The placement of the actors of a run, round by round.

    An actor is placed once its constructor has called `Ledger.add_placed`. Before that it has
    reserved its resources and its process starts, which can take long on a busy machine: then the
    time that the models may take to load is added.
    """

    def __init__(self, ledger: Any, cluster: Cluster) -> None:
        self._ledger, self._cluster = ledger, cluster
        self._placed_before = 0
        self._begin()

    def next_round(self) -> None:
        """Watch the actors of the round that begins now, before its pool is started."""
        self._placed_before = pool.placed(self._ledger)
        self._begin()

    def _begin(self) -> None:
        self._free = free_resources()
        self._started = time.monotonic()
        self._decided = False

    def check(self) -> None:
        """Raises PlacementError, once a round, where no actor was placed in time."""
        cluster, waited = self._cluster, time.monotonic() - self._started
        if self._decided or waited < cluster.scheduling_timeout_s:
            return
        if pool.placed(self._ledger) > self._placed_before:
            self._decided = True
            return
        free = free_resources()
        reserved = any(free[kind] < self._free[kind] for kind in free)
        if reserved and waited < cluster.scheduling_timeout_s + cluster.load_seconds:
            return
        self._decided = True
        raise _not_placed(cluster, waited, free)
