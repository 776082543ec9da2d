from types import SimpleNamespace

import pytest

from pipeline.cluster.config import Actors, Cluster
from pipeline.errors import InputError
from pipeline.run.pool import Blocks, Statuses, task_size
from pipeline.run.prompt_status import PromptState, PromptStatus, to_table
from pipeline.run.worker import Assignment
from tests.pipeline.rows import item, store_in


@pytest.mark.parametrize(
    ("count", "in_flight", "actors", "size"),
    [
        (1, 96, 1, 1),
        (512, 96, 1, 8),
        (512, 4, 1, 1),
        (512, 96, 64, 1),
        (1_000_000, 96, 8, 8),
        (1_000_000, 1000, 8, 16),
    ],
)
def test_a_task_holds_several_prompts_only_where_there_are_many(count, in_flight, actors, size):
    cluster = Cluster(actors=Actors(actors, actors), in_flight=in_flight)
    assert task_size(count, cluster) == size
    assert size == 1 or size * 8 <= min(in_flight, count / actors)


@pytest.mark.parametrize(("flush_rows", "window"), [(1, 96), (16, 111)])
def test_rows_that_wait_for_their_group_leave_the_engines_as_many_prompts(
    tmp_path, flush_rows, window
):
    store = store_in(tmp_path, flush_rows=flush_rows)
    assert Assignment(None, store, Cluster(in_flight=96), isolated=False).window == window


def dataset(*batches):
    """A dataset of Ray that yields these tables, and raises those that are errors."""

    def iter_batches(**options):
        for batch in batches:
            if isinstance(batch, BaseException):
                raise batch
            yield batch

    return SimpleNamespace(iter_batches=iter_batches)


STATUSES = [PromptStatus((f"p{n}", 0), PromptState.DONE, "{}") for n in range(3)]


def test_statuses_come_in_the_order_of_the_batches_and_the_ledger_may_forget_their_prompts():
    reported = []
    batches = dataset(to_table(STATUSES[:2]), to_table(STATUSES[2:]))
    assert list(Statuses(batches, Blocks([]), reported.append)) == STATUSES
    assert reported == [[status.key for status in task] for task in (STATUSES[:2], STATUSES[2:])]


def test_an_error_of_the_input_comes_after_the_statuses_of_what_was_read():
    def tasks():
        yield [item("a"), item("b")]
        raise InputError("prompts.jsonl was changed")

    blocks = Blocks(tasks())
    assert [block.num_rows for block in blocks] == [2]
    statuses = iter(Statuses(dataset(to_table(STATUSES)), blocks, lambda keys: None))
    assert [next(statuses) for _ in STATUSES] == STATUSES
    with pytest.raises(InputError, match="was changed"):
        next(statuses)


def test_an_error_of_ray_is_raised_where_statuses_are_read():
    batches = dataset(to_table(STATUSES[:1]), OSError("a node is gone"))
    statuses = iter(Statuses(batches, Blocks([]), lambda keys: None))
    assert next(statuses) == STATUSES[0]
    with pytest.raises(OSError, match="a node is gone"):
        next(statuses)
