"""Durations in a config: how long a thread may wait."""

from __future__ import annotations

import threading

# A longer wait raises OverflowError in the thread that waits, and would end it.
LONGEST_WAIT = threading.TIMEOUT_MAX


def check_seconds(name: str, value: float) -> None:
    """Raises ValueError unless a thread can wait for `value` seconds; `name` is the key."""
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value:g}")
    if not value <= LONGEST_WAIT:
        raise ValueError(f"{name} must be at most {LONGEST_WAIT:.0f}, got {value:g}")
