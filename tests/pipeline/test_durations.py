import faulthandler
import multiprocessing
import queue
import threading

import pytest

from pipeline.durations import LONGEST_WAIT, check_seconds


def test_a_thread_can_wait_for_what_passes():
    check_seconds("key", 1e-9)
    check_seconds("key", LONGEST_WAIT)
    event = threading.Event()
    here, there = multiprocessing.Pipe()
    arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
    for come in (event.set, lambda: there.send(1), lambda: arrived.put(1)):
        threading.Timer(0.1, come).start()
    assert event.wait(LONGEST_WAIT)
    assert here.poll(LONGEST_WAIT)
    assert arrived.get(timeout=LONGEST_WAIT)
    faulthandler.dump_traceback_later(LONGEST_WAIT)
    faulthandler.cancel_dump_traceback_later()
    with pytest.raises(OverflowError):
        here.poll(LONGEST_WAIT + 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "key must be above 0, got 0"),
        (-1.0, "key must be above 0, got -1"),
        (float("nan"), "key must be above 0, got nan"),
        (1e11, r"key must be at most \d+, got 1e\+11"),
        (float("inf"), r"key must be at most \d+, got inf"),
    ],
)
def test_a_wait_that_no_thread_can_make_is_refused_by_name(value, message):
    with pytest.raises(ValueError, match=message):
        check_seconds("key", value)
