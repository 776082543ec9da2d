"""A dataset of Ray Data whose blocks the driver makes while the dataset is executed.

All public sources of Ray Data either hold every block before the first task starts
(`from_blocks`), or read in tasks of their own (`read_datasource`), which take part in the shares
of CPUs that bound the pool, and whose errors Ray would drop like those of a worker. So this module
adds a source of its own to Ray's planner. It uses inner classes of Ray, whose minor version
pyproject.toml fixes; `tests/pipeline/run/test_block_stream.py` tells whether another one still
fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset
from ray.data._internal.execution.interfaces import BlockEntry, RefBundle
from ray.data._internal.execution.operators.input_data_buffer import InputDataBuffer
from ray.data._internal.logical.interfaces import LogicalOperator, LogicalPlan, SourceOperator
from ray.data._internal.logical.operators import AbstractUDFMap
from ray.data._internal.planner.planner import Planner
from ray.data._internal.stats import DatasetStats
from ray.data.block import BlockMetadataWithSchema

from pipeline.run.actor_arguments import by_value


def stream(blocks: Iterator[pa.Table], count: int, waiting: int) -> Dataset:
    """A dataset of about `count` blocks, to be read once.

    A block is made when fewer than `waiting` blocks wait for an actor, and freed when its task has
    ended. `blocks` must not raise: the exception would end the actors at once.
    """
    context = DataContext.get_current().copy()
    source = _Source()
    # The operator is a frozen dataclass of Ray, and its fields are exported as text.
    object.__setattr__(source, "stream", (blocks, count, waiting))
    return Dataset(LogicalPlan(source, context), context, DatasetStats(metadata={}, parent=None))


class _Source(LogicalOperator, SourceOperator):  # type: ignore[misc]
    """The stream in a logical plan."""

    def output_data(self) -> None:
        return None


class _Stream(InputDataBuffer):  # type: ignore[misc]
    """The stream in a physical plan: Ray's executor takes its blocks as those of an input that is
    known beforehand, and knows that it has not ended."""

    def __init__(
        self, context: DataContext, blocks: Iterator[pa.Table], count: int, waiting: int
    ) -> None:
        super().__init__(context, input_data=[])
        self._blocks, self._waiting = blocks, waiting
        self._next: pa.Table | None = None
        self._ended = False
        self._estimated_num_output_bundles = count

    def mark_execution_finished(self) -> None:
        self._ended = True

    def has_execution_finished(self) -> bool:
        return self._ended

    def throttling_disabled(self) -> bool:
        # Otherwise Ray reserves half of the CPUs for this source, and the pool cannot grow.
        return True

    def has_next(self) -> bool:
        # Ray's executor takes blocks until this is False, in each step of its loop, and counts
        # those that no actor has taken yet.
        if self._ended or self.metrics.num_external_outqueue_blocks >= self._waiting:
            return False
        if self._next is None:
            self._next = next(self._blocks, None)
            self._ended = self._next is None
        return not self._ended

    def _get_next_inner(self) -> RefBundle:
        self._forget_statistics()
        block, self._next = self._next, None
        described = BlockMetadataWithSchema.from_block(block)
        # The bundle holds the only reference to the block, so the store frees it after its task.
        entry = BlockEntry(ray.put(block), described)
        bundle = RefBundle([entry], owns_blocks=False, schema=described.schema)
        self.metrics.on_input_received(bundle)
        return bundle

    def _forget_statistics(self) -> None:
        # Ray keeps a record of a kilobyte of each task until the end, for statistics that nobody
        # reads here.
        for operator in self.output_dependencies:
            for records in operator.get_stats().values():
                records.clear()


def _plan(source: Any, children: list[Any], context: DataContext) -> _Stream:
    return _Stream(context, *source.stream)


def _plan_map(operator: Any, children: list[Any], context: DataContext) -> Any:
    physical = _RAYS_PLAN_OF_A_MAP(operator, children, context)
    # Datasets with another source are none of this module's concern.
    return by_value(physical) if isinstance(children[0], _Stream) else physical


_RAYS_PLAN_OF_A_MAP = Planner._DEFAULT_PLAN_FNS[AbstractUDFMap]
Planner._DEFAULT_PLAN_FNS |= {_Source: _plan, AbstractUDFMap: _plan_map}
