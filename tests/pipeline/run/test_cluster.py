"""Joining a Ray, and being interrupted meanwhile."""

import signal
import sys

import pytest

from pipeline.errors import RunError
from pipeline.run.cluster import _sigterm_restored, connected
from pipeline.run.cluster_config import Cluster


def test_a_ray_that_cannot_be_joined_ends_the_run_by_name(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    message = "cannot join the Ray cluster at nonsense"
    with pytest.raises(RunError, match=message), connected(Cluster(address="nonsense")):
        pass


def test_a_sigterm_that_ray_takes_for_itself_is_an_interrupt():
    def ray_starts() -> None:
        with _sigterm_restored():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        ray_starts()
    assert signal.getsignal(signal.SIGTERM) is before
