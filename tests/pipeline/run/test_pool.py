import pytest

from pipeline.run.cluster_config import Actors, Cluster
from pipeline.run.pool import task_size


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
