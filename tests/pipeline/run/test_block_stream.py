"""Blocks are made while Ray's executor takes them, and the pool grows as on an input that is known
beforehand."""

import asyncio
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import replace
from itertools import chain
from threading import Thread
from types import SimpleNamespace

import pyarrow as pa
import pytest
import ray
from ray.data import ActorPoolStrategy, DataContext

from nabla_core.config import Decoding
from nabla_core.model_config import LM
from pipeline.cluster.config import Cluster
from pipeline.generate.config import GenerateConfig
from pipeline.generate.plan import plan
from pipeline.run.block_stream import _Stream, stream
from pipeline.run.driver import execute
from pipeline.run.pool import _configure
from tests.pipeline.rows import item

BLOCKS, WAITING, ACTORS, TASKS_AN_ACTOR = 40, 5, 2, 3


class Work:
    """A task that ends once the gate is open, and reports which process ran it."""

    def __init__(self, gate):
        self._gate = gate

    async def __call__(self, block):
        while not await self._gate.is_open.remote():
            await asyncio.sleep(0.05)
        name = ray.get_runtime_context().get_actor_id()
        return block.append_column("actor", pa.array([name] * block.num_rows))


class Gate:
    def __init__(self):
        self._open = False

    def open(self):
        self._open = True

    def is_open(self):
        return self._open


@pytest.mark.usefixtures("cluster")
def test_only_as_many_blocks_exist_as_the_pool_can_take_and_the_pool_grows():
    made = []

    def blocks():
        for number in range(BLOCKS):
            made.append(number)
            yield pa.table({"number": [number]})

    gate = ray.remote(num_cpus=0)(Gate).remote()
    _configure(DataContext.get_current())
    results = stream(blocks(), BLOCKS, WAITING).map_batches(
        Work,
        fn_constructor_kwargs={"gate": gate},
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            min_size=1,
            max_size=ACTORS,
            max_concurrent_calls_per_actor=2,
            max_tasks_in_flight_per_actor=TASKS_AN_ACTOR,
        ),
        num_cpus=1,
    )
    assert made == []
    most = WAITING + ACTORS * TASKS_AN_ACTOR
    batches = iter(results.iter_batches(batch_size=None, batch_format="pyarrow"))
    first = Future()
    Thread(target=lambda: first.set_result(next(batches)), daemon=True).start()
    # No task ends before the gate is open. A pool of one actor would stop at fewer blocks.
    while len(made) < most:
        time.sleep(0.1)
    time.sleep(1)
    assert len(made) == most
    ray.get(gate.open.remote())
    rows = [row for batch in chain([first.result()], batches) for row in batch.to_pylist()]
    assert sorted(row["number"] for row in rows) == list(range(BLOCKS))
    assert len(Counter(row["actor"] for row in rows)) == ACTORS


@pytest.mark.usefixtures("cluster")
def test_ray_keeps_no_record_of_the_tasks_that_ended():
    source = _Stream(DataContext.get_current(), (pa.table({"n": [n]}) for n in range(3)), 3, 1)
    records = []
    source._output_dependencies.append(SimpleNamespace(get_stats=lambda: {"workers": records}))
    taken = 0
    while source.has_next():
        bundle = source.get_next()
        assert records == []
        records.append("a task ended")
        taken += ray.get(bundle.block_refs[0]).num_rows
    assert taken == 3
    assert source.has_completed()


class Reports:
    """Notes how many prompts were read when the first report of one came."""

    def __init__(self, readings):
        self._readings = readings
        self.read_before = None

    def on_status(self, status):
        if self.read_before is None:
            self.read_before = self._readings[-1]

    def started(self, total, finished, dead): ...
    def phase(self, text): ...
    def note(self, text): ...


@pytest.mark.usefixtures("cluster")
def test_a_run_begins_when_a_few_prompts_are_read_and_never_has_them_all(tmp_path):
    readings = []

    def read():
        readings.append(0)
        for number in range(200):
            readings[-1] += 1
            yield item(f"p{number}")

    described = plan(
        GenerateConfig(
            run_dir=str(tmp_path / "run"),
            lm=LM(path="scripted?delay=0.02"),
            decoding=Decoding(method="sample"),
            cluster=Cluster(in_flight=4),
        )
    )
    reports = Reports(readings)
    outcome = execute(replace(described, read=read), reports)
    assert (outcome.total, outcome.finished) == (200, 200)
    # Once for the index of ids, once for the tasks.
    assert readings == [200, 200]
    # Five prompts are in the actor and five wait. Some more end before the first is reported.
    assert 5 < reports.read_before < 100
