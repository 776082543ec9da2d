"""Joining a Ray, and being interrupted meanwhile."""

import signal
import sys

import pytest

from pipeline.cluster.config import Cluster
from pipeline.cluster.connection import _sigterm_restored, connected, restart_local, shared
from pipeline.errors import RunError


def test_a_ray_that_cannot_be_joined_ends_the_run_by_name(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    message = "cannot join the Ray cluster at nonsense"
    with pytest.raises(RunError, match=message), connected(Cluster(address="nonsense")):
        pass


def test_an_address_where_nothing_answers_is_one_line_and_not_waited_for(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **options: pytest.fail("ray.init was called"))
    with pytest.raises(RunError) as failure, connected(Cluster(address="127.0.0.1:1")):
        pass
    message = str(failure.value)
    assert message.startswith("cannot join the Ray cluster at 127.0.0.1:1: ")
    assert "\n" not in message


class FakeRay:
    """Records the calls of ray.init, of which the first `failures` raise."""

    def __init__(self, monkeypatch, failures=()):
        self.calls, self.failures, self.up = [], list(failures), False
        monkeypatch.setattr("ray.is_initialized", lambda: self.up)
        monkeypatch.setattr("ray.init", self.init)
        monkeypatch.setattr("ray.shutdown", self.shutdown)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def init(self, **options):
        self.calls.append(options["num_cpus"])
        if self.failures:
            raise self.failures.pop(0)
        self.up = True

    def shutdown(self):
        if self.up:
            self.calls.append("shutdown")
        self.up = False


LATE = Exception("The current node timed out during startup.\nThis could happen because")


def test_a_local_ray_that_comes_up_too_late_is_started_once_more(monkeypatch, caplog):
    fake = FakeRay(monkeypatch, [LATE])
    with connected(Cluster(), 64):
        assert fake.calls == [64, 64]
    assert fake.calls == [64, 64, "shutdown"]
    assert "timed out during startup.; trying again" in caplog.text


def test_a_local_ray_that_does_not_come_up_is_an_error_of_one_line(monkeypatch):
    fake = FakeRay(monkeypatch, [LATE, LATE, LATE])
    message = "^cannot start a local Ray: The current node timed out during startup.$"
    with pytest.raises(RunError, match=message), connected(Cluster(), 64):
        pass
    assert fake.calls == [64, 64]


def test_blocks_inside_a_shared_one_use_one_ray_and_without_them_none_is_started(monkeypatch):
    fake = FakeRay(monkeypatch)
    with shared(Cluster(), 64):
        pass
    assert fake.calls == []
    with shared(Cluster(), 64):
        for _ in range(2):
            with connected(Cluster(), 99):
                assert fake.up
        assert fake.calls == [64]
    assert fake.calls == [64, "shutdown"]
    with connected(Cluster(), 99):
        pass
    assert fake.calls[2:] == [99, "shutdown"]


def test_only_a_local_ray_that_this_process_started_is_replaced(monkeypatch):
    fake = FakeRay(monkeypatch)
    assert not restart_local()
    with connected(Cluster(), 64):
        assert restart_local()
        assert fake.calls == [64, "shutdown", 64]
    assert not fake.up
    fake.up = True
    with connected(Cluster(), 64):
        assert not restart_local()
    assert fake.up


def test_a_sigterm_that_ray_takes_for_itself_is_an_interrupt():
    def ray_starts() -> None:
        with _sigterm_restored():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        ray_starts()
    assert signal.getsignal(signal.SIGTERM) is before
