"""Ray Data's actor pool: it shards prompts, retries tasks, scales and survives lost nodes.

A task is a few prompts and one call of an async actor method. An actor is given more tasks than
it can work on, so a slow prompt keeps no other one waiting. The actors commit rows as they
finish; only statuses come back with the task. Tasks are made while the pool takes them, so that a
big input is never in memory as a whole.
"""

from __future__ import annotations

import logging
import math
import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.cluster.config import Cluster
from pipeline.cluster.connection import node_alive
from pipeline.errors import PipelineError
from pipeline.inputs.prompts import Item
from pipeline.run.block_stream import stream
from pipeline.run.ledger import Ledger
from pipeline.run.prompt_status import Key, PromptStatus, from_table
from pipeline.run.worker import Assignment, PoolWorker

MAX_TASK_SIZE = 16
# A chance death while models load must not end the run; Ray Data's default of 0 would.
MAX_INIT_DEATHS = 2
POLL_SECONDS = 1.0


def start_ledger(max_attempts: int, name: str) -> Any:
    """The ledger as an actor of this name on the driver's node, so that it lives as long as the
    run. After a restart it knows no running prompt and counts attempts from 0; no row depends on
    it."""
    # On another node it could be lost to that node's death, and Ray would retry a prompt that
    # kills its process for ever: the ledger's count of attempts is the only bound.
    this_node = ray.get_runtime_context().get_node_id()
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Ledger)
    return actor.options(
        name=name, scheduling_strategy=NodeAffinitySchedulingStrategy(this_node, soft=False)
    ).remote(max_attempts, node_alive)


def end_ledger(ledger: Any) -> None:
    """End the ledger's process after what it was asked before. In a Ray that serves other runs too
    it would stay until the driver ends."""
    # Not `ray.kill`, which waits for the head of the cluster: that may be what was lost.
    ledger.__ray_terminate__.options(max_task_retries=0).remote()


def suspects(ledger: Any, is_missing: Callable[[Key], bool]) -> list[list[Key]]:
    """The prompts that must run isolated, in groups; see `Ledger.suspects`. Call it between
    rounds."""
    missing = [key for key in ray.get(ledger.open_keys.remote()) if is_missing(key)]
    groups: list[list[Key]] = ray.get(ledger.suspects.remote(missing))
    return groups


def stop(ledger: Any, seconds: float) -> None:
    """Let no further prompt start, and wait at most so many seconds until the workers have
    committed the rows that wait."""
    deadline = time.monotonic() + seconds
    try:
        ray.get(ledger.stop.remote(), timeout=seconds)
        while (left := deadline - time.monotonic()) > 0:
            if ray.get(ledger.all_flushed.remote(), timeout=left):
                return
            time.sleep(0.1)
    except RayError:
        # Too late, or Ray is what is broken, and the error that ends the run tells it. Rows that
        # wait are made again.
        return


def placed(ledger: Any) -> int:
    """How many worker processes have started; 0 also where the ledger itself has not."""
    try:
        count: int = ray.get(ledger.placed.remote(), timeout=POLL_SECONDS)
    except GetTimeoutError:
        return 0
    return count


def run_pool(items: Iterable[Item], count: int, assignment: Assignment, ledger: Any) -> Statuses:
    """Work on `count` items, which are read as the pool takes them; a status comes with the end of
    each task. The prompts of a task that Ray gives up have no status; the caller finds them
    missing in the store.
    """
    cluster = assignment.cluster
    size = task_size(count, cluster)
    window = assignment.window
    # The first actor to come up must leave the others their share of the tasks.
    share = math.ceil(count / size / cluster.actors.max)
    # The prompts of a task end at different times and the task ends with the last. Twice the window
    # keeps the actor busy meanwhile.
    calls = min(window if size == 1 else math.ceil(2 * window / size), share)
    strategy = ActorPoolStrategy(
        min_size=min(cluster.actors.min, math.ceil(count / size)),
        max_size=cluster.actors.max,
        max_concurrent_calls_per_actor=calls,
        # A few more tasks wait at the actor, so that it need not wait for the driver. Without them
        # the pool could not grow either: it grows while tasks are queued.
        max_tasks_in_flight_per_actor=min(calls + math.ceil(calls / 4), share),
    )
    return _statuses(_chunks(items, size), math.ceil(count / size), strategy, assignment, ledger)


def run_groups(groups: Sequence[Sequence[Item]], assignment: Assignment, ledger: Any) -> Statuses:
    """Like `run_pool`, but a worker process runs one group at a time."""
    strategy = ActorPoolStrategy(
        size=min(assignment.cluster.actors.min, len(groups)),
        max_concurrent_calls_per_actor=1,
        max_tasks_in_flight_per_actor=1,
    )
    return _statuses(iter(groups), len(groups), strategy, assignment, ledger)


def task_size(count: int, cluster: Cluster) -> int:
    """Prompts a task: a power of two that leaves each actor at least eight tasks, at any time and
    over the whole run. Larger tasks save the 20 ms that Ray Data needs for each."""
    largest = min(MAX_TASK_SIZE, cluster.in_flight // 8, count // (8 * cluster.actors.max))
    return 1 << max(largest, 1).bit_length() - 1


def _statuses(
    tasks: Iterator[Sequence[Item]],
    count: int,
    strategy: ActorPoolStrategy,
    assignment: Assignment,
    ledger: Any,
) -> Statuses:
    _configure(DataContext.get_current())
    # As many tasks wait as the whole pool can take, so that each step of Ray's loop fills it.
    # The pool grows only while tasks wait.
    waiting = strategy.max_size * strategy.max_tasks_in_flight_per_actor
    # The driver cuts the input into tasks itself. A stage of Ray Data before the actors would
    # need a CPU of its own, and the run would hang where the actors have reserved all CPUs; if
    # Ray fused it with the actors' stage, a single actor would get all tasks.
    blocks = Blocks(tasks)
    dataset = stream(iter(blocks), count, waiting).map_batches(
        PoolWorker,
        fn_constructor_kwargs={"assignment": assignment},
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=strategy,
        num_cpus=assignment.cluster.cpus_per_actor,
        num_gpus=assignment.cluster.gpus_per_actor,
    )
    return Statuses(dataset, blocks, ledger.reported.remote)


# What the names of Ray Data's threads of `StreamingExecutor` begin with.
_EXECUTOR = "StreamingExecutor-"


class Blocks:
    """Tasks as blocks of Ray Data, made as they are taken. An error of the input ends them and is
    kept, so that what the actors have begun is committed before the run ends with it."""

    def __init__(self, tasks: Iterable[Sequence[Item]]) -> None:
        self._tasks = tasks
        self.error: PipelineError | None = None

    def __iter__(self) -> Iterator[pa.Table]:
        try:
            for task in self._tasks:
                items = pa.array([pickle.dumps(item) for item in task], pa.binary())
                yield pa.table({"item": items})
        except PipelineError as error:
            self.error = error


class Statuses:
    """The statuses of a dataset, read by a thread of its own: a KeyboardInterrupt inside Ray Data
    would end the actors at once, before they commit the rows that wait.

    `reported` is called with the keys of each task whose statuses are read. After the last status
    comes the error of `blocks`, if there is one.
    """

    def __init__(self, dataset: Any, blocks: Blocks, reported: Callable[[list[Key]], Any]) -> None:
        self._blocks, self._reported = blocks, reported
        self._queue: queue.SimpleQueue[PromptStatus | BaseException | None] = queue.SimpleQueue()
        self._others = set(threading.enumerate())
        self._thread = threading.Thread(target=self._follow, args=(dataset,), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[PromptStatus]:
        return self.each(lambda: None)

    def each(self, while_waiting: Callable[[], None]) -> Iterator[PromptStatus]:
        """The statuses as they come; `while_waiting` is called every second without one."""
        while True:
            try:
                status = self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                while_waiting()
                continue
            if status is None:
                return
            if isinstance(status, BaseException):
                raise status
            yield status

    def end(self, seconds: float) -> None:
        """Wait at most so many seconds for Ray Data to end by itself, then end it. Its threads must
        not ask a Ray that is shut down: they would log tracebacks, or abort the process."""
        self._thread.join(seconds)
        if not self._thread.is_alive():
            return
        # Ray Data has no public way to end a dataset that another thread reads.
        for thread in set(threading.enumerate()) - self._others:
            if thread.name.startswith(_EXECUTOR) and hasattr(thread, "shutdown"):
                # Where Ray is what is broken, the error that ends the run tells it.
                with suppress(RayError):
                    thread.shutdown(force=True)

    def _follow(self, dataset: Any) -> None:
        try:
            for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                statuses = list(from_table(batch))
                self._reported([status.key for status in statuses])
                for status in statuses:
                    self._queue.put(status)
        except BaseException as error:  # noqa: BLE001 - raised where statuses are read
            self._queue.put(error)
        else:
            self._queue.put(self._blocks.error)


def _configure(context: DataContext) -> None:
    for logger in ("progress", "execution.streaming_executor"):
        logging.getLogger(f"ray.data._internal.{logger}").setLevel(logging.ERROR)
    # Ray drops the prompts of a failed task without an error. That is safe here: the driver
    # looks in the store for what is missing and runs another round.
    context.max_errored_blocks = -1
    context.max_consecutive_actor_init_deaths = MAX_INIT_DEATHS
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Every half a minute two paragraphs on an argument of Ray Data that users cannot give: actors
    # that hold models of some GB need no more than those. `nabla estimate` tells what they take.
    context.issue_detectors_config.high_memory_detector_config.detection_time_interval_s = -1
    context.execution_options.preserve_order = False
    # The pool grows once its actors are full. The default waits for a queue of nearly twice as
    # many tasks, all of them at the first actor.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
