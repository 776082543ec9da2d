"""When a round counts as one whose actors Ray does not place; no clock and no Ray."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.cluster import connection as cluster
from pipeline.cluster.config import Cluster
from pipeline.errors import PlacementError, RunError
from pipeline.run import placement
from pipeline.run.placement import Placement
from tests.pipeline.run.test_driver import Silent, run

assert run  # the fixture

CLUSTER = Cluster(scheduling_timeout_s=60, load_seconds=1000, cpus_per_actor=2)


@pytest.fixture
def world(monkeypatch):
    """What the clock, the ledger and Ray say; a test changes it."""
    world = SimpleNamespace(now=0.0, placed=0, free={"CPU": 2.0, "GPU": 0.0})
    monkeypatch.setattr(placement, "time", SimpleNamespace(monotonic=lambda: world.now))
    monkeypatch.setattr(placement.pool, "placed", lambda ledger: world.placed)
    monkeypatch.setattr(placement, "free_resources", lambda: dict(world.free))
    return world


def test_an_actor_that_is_not_placed_in_time_is_an_error_with_what_is_missing(world):
    world.free["CPU"] = 1.0
    watched = Placement(None, CLUSTER)
    world.now = 59.0
    watched.check()
    world.now = 61.0
    with pytest.raises(PlacementError) as failure:
        watched.check()
    assert str(failure.value) == (
        "Ray has placed no actor in 61 s: an actor needs 2 CPU and 0 GPU (cluster), and 1 CPU and "
        "0 GPU are free"
    )
    watched.check()  # once a round


def test_a_placed_actor_ends_the_watch_of_its_round(world):
    watched = Placement(None, CLUSTER)
    world.now, world.placed = 61.0, 1
    watched.check()
    world.now = 1e6
    watched.check()
    watched.next_round()
    world.now += 61
    with pytest.raises(PlacementError):
        watched.check()
    watched.next_round()
    world.placed = 2
    world.now += 61
    watched.check()


def test_an_actor_whose_process_starts_slowly_has_the_time_of_loading_too(world):
    watched = Placement(None, CLUSTER)
    world.free["CPU"] = 0.0
    world.now = 1059.0
    watched.check()
    world.now = 1061.0
    with pytest.raises(PlacementError):
        watched.check()


@pytest.mark.parametrize("address", [None, "head:6379"])
def test_only_a_cluster_that_nodes_may_join_is_waited_for(world, run, monkeypatch, address):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    notes = []
    monkeypatch.setattr(Silent, "note", lambda self, text: notes.append(text))
    settings = Cluster(address=address, scheduling_timeout_s=60)
    run.plan = replace(run.plan, cluster=settings)
    rounds = run._rounds()
    rounds._placement = Placement(None, settings)
    world.now = 61.0
    if address is None:
        with pytest.raises(PlacementError):
            rounds._check_placement()
        assert notes == []
    else:
        rounds._check_placement()
        rounds._check_placement()
        (note,) = notes
        assert note.startswith("Ray has placed no actor in 61 s: ")
        assert note.endswith(": waiting for a node that joins")


def test_a_ray_that_does_not_answer_ends_the_run(monkeypatch):
    def gone():
        raise ConnectionError("the head is gone")

    monkeypatch.setattr(cluster.ray, "available_resources", gone)
    with pytest.raises(RunError, match=r"^Ray does not answer: the head is gone$"):
        cluster.free_resources()
