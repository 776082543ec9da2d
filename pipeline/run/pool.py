"""Ray Data's actor pool: shards, retries, scaling, node loss.

A task is a few prompts and one call of an async actor method. An actor has twice the tasks
it can work on, so one that waits for a slow prompt holds up nothing: rows are committed by
the actors as they are made, and only statuses travel back with the task.
"""

from __future__ import annotations

import logging
import math
import pickle
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.inputs.prompts import Item
from pipeline.run.cluster import Cluster, node_alive
from pipeline.run.ledger import Key, Ledger
from pipeline.run.worker import Assignment, Worker

TASK = 16
INIT_DEATHS = 2


@dataclass(frozen=True)
class Status:
    """How one prompt fared; see `worker.Worker`."""

    key: Key
    state: str
    detail: str


def start_ledger(max_attempts: int) -> Any:
    """The ledger as an actor beside the driver: it lives and dies with the run. A restarted
    one has forgotten who was in flight and counts attempts anew; no row depends on it."""
    here = ray.get_runtime_context().get_node_id()
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Ledger)
    return actor.options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)
    ).remote(max_attempts, node_alive)


def suspects(ledger: Any, missing: Iterable[Key]) -> list[list[Key]]:
    """The prompts that must run apart, in groups; see `Ledger.suspects`."""
    found: list[list[Key]] = ray.get(ledger.suspects.remote(list(missing)))
    return found


def stop(ledger: Any, seconds: float) -> None:
    """Let no prompt begin any more, and give workers so long to commit what waits."""
    ray.get(ledger.stop.remote())
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not ray.get(ledger.all_flushed.remote()):
        time.sleep(0.1)


def run_pool(items: Iterable[Item], count: int, assignment: Assignment, ledger: Any) -> Statuses:
    """Work on `count` items; a status comes as each one ends. Some may never be heard of:
    a block that Ray gives up is missing here, and its prompts are not committed.
    """
    cluster = assignment.cluster
    size = task_size(count, cluster)
    # Rows that wait to be flushed occupy their place as well. No actor takes more than its
    # share, however late the others come up.
    window = cluster.in_flight + assignment.store.settings.flush_rows - 1
    share = math.ceil(count / size / cluster.actors.max)
    calls = min(window if size == 1 else math.ceil(2 * window / size), share)
    strategy = ActorPoolStrategy(
        min_size=min(cluster.actors.min, math.ceil(count / size)),
        max_size=cluster.actors.max,
        max_concurrent_calls_per_actor=calls,
        max_tasks_in_flight_per_actor=min(calls + math.ceil(calls / 4), share),
    )
    return _statuses(_chunks(items, size), strategy, assignment, ledger)


def run_groups(groups: Sequence[Sequence[Item]], assignment: Assignment, ledger: Any) -> Statuses:
    """As `run_pool`, but each group has a worker process to itself while it runs."""
    strategy = ActorPoolStrategy(
        size=min(assignment.cluster.actors.min, len(groups)),
        max_concurrent_calls_per_actor=1,
        max_tasks_in_flight_per_actor=1,
    )
    return _statuses(groups, strategy, assignment, ledger)


def task_size(count: int, cluster: Cluster) -> int:
    """Prompts a task: a power of two that leaves an actor eight tasks at least, at any time
    and over the whole run. Ray Data takes some 20 ms to hand over a task."""
    most = min(TASK, cluster.in_flight // 8, count // (8 * cluster.actors.max))
    return 1 << max(most, 1).bit_length() - 1


def _statuses(
    tasks: Iterable[Sequence[Item]],
    strategy: ActorPoolStrategy,
    assignment: Assignment,
    ledger: Any,
) -> Statuses:
    _configure(DataContext.get_current())
    # The driver cuts the input into tasks itself: a stage before the actors would need a CPU
    # beside them, and where they take all there are, the run would stand still. (Fused with
    # the actors' stage, it would give one of them everything.)
    dataset = ray.data.from_blocks([_block(task) for task in tasks]).map_batches(
        Worker,
        fn_constructor_kwargs={"assignment": assignment, "ledger": ledger},
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=strategy,
        num_cpus=assignment.cluster.cpus_per_actor,
        num_gpus=assignment.cluster.gpus_per_actor,
    )
    return Statuses(dataset)


class Statuses:
    """The statuses of a dataset, read in a thread of their own: an interrupt in the midst of
    Ray would end the actors at once, before they can commit what waits."""

    def __init__(self, dataset: Any) -> None:
        self._heard: queue.SimpleQueue[Status | BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._follow, args=(dataset,), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Status]:
        while (status := self._heard.get()) is not None:
            if isinstance(status, BaseException):
                raise status
            yield status

    def wait(self, seconds: float) -> None:
        """Let Ray Data end by itself."""
        self._thread.join(seconds)

    def _follow(self, dataset: Any) -> None:
        try:
            for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                for row in batch.to_pylist():
                    key = (row["prompt_id"], row["sample"])
                    self._heard.put(Status(key, row["state"], row["detail"]))
        except BaseException as error:  # noqa: BLE001 - raised where statuses are read
            self._heard.put(error)
        else:
            self._heard.put(None)


def _configure(context: DataContext) -> None:
    for chatty in ("progress", "execution.streaming_executor"):
        logging.getLogger(f"ray.data._internal.{chatty}").setLevel(logging.ERROR)
    context.max_errored_blocks = -1
    context.max_consecutive_actor_init_deaths = INIT_DEATHS
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = False
    # A full pool grows; the default asks for a queue of nearly twice that, which would wait
    # at one actor while others have nothing left.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0


def _block(items: Sequence[Item]) -> pa.Table:
    return pa.table({"item": pa.array([pickle.dumps(item) for item in items], pa.binary())})


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
