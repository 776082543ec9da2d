import pytest

from pipeline.run.cluster_config import Actors, Cluster
from pipeline.run.pool import task_size
from pipeline.run.worker import Assignment
from tests.pipeline.rows import store_in


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
