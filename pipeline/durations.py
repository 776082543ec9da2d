"""Durations: how long a thread may wait, and how they are shown."""

from __future__ import annotations

# 24 days. A longer wait raises OverflowError where it begins, and would end a thread: poll() takes
# milliseconds in 31 bits. Locks could wait longer (`threading.TIMEOUT_MAX`).
LONGEST_WAIT = (2**31 - 1) // 1000


def check_seconds(name: str, value: float) -> None:
    """Raises ValueError unless a thread can wait for `value` seconds; `name` is the key."""
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value:g}")
    if not value <= LONGEST_WAIT:
        raise ValueError(f"{name} must be at most {LONGEST_WAIT}, got {value:g}")


def clock(seconds: float) -> str:
    """`3:07` for minutes and seconds, `1:02:03` with hours."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
