import threading

import pytest

from pipeline.durations import LONGEST_WAIT, check_seconds


def test_a_thread_can_wait_for_what_passes():
    check_seconds("key", 1e-9)
    check_seconds("key", LONGEST_WAIT)
    event = threading.Event()
    event.set()
    assert event.wait(LONGEST_WAIT)


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
