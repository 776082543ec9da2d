"""RequestGenerator: replies in order, and responses that a reward model cannot read."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from nabla_core.errors import EncodingError, NonFiniteError
from nabla_core.requests import Decode, ask, ask_all, ask_readable


def answered(asking: Generator[Any, Any, Any], bad: dict[str, Exception]) -> tuple[Any, list[int]]:
    """What is returned where every request is answered with its first token, and how many
    requests were sent at a time. Sending a bad one raises its error."""
    sizes: list[int] = []
    try:
        requests = next(asking)
        while True:
            sizes.append(len(requests))
            numbers = [r.sequences[0][0] for r in requests]
            error = next((bad[str(n)] for n in numbers if str(n) in bad), None)
            requests = asking.throw(error) if error else asking.send(numbers)
    except StopIteration as stop:
        return stop.value, sizes


def asked(*numbers: int) -> list[Decode]:
    return [Decode(((n,),)) for n in numbers]


def test_one_and_several_replies_come_in_order():
    assert answered(ask(asked(7)[0]), {}) == (7, [1])
    assert answered(ask_all(asked(3, 1, 2)), {}) == ([3, 1, 2], [3])
    assert answered(ask_all([]), {}) == ([], [])


def test_an_unreadable_response_is_isolated_by_bisection():
    bad: dict[str, Exception] = {"2": EncodingError("unknown token")}
    assert answered(ask_readable(asked(0, 1, 2, 3)), bad) == ([0, 1, None, 3], [4, 2, 2, 1, 1])


def test_other_errors_are_not_taken_for_unreadable_ones():
    with pytest.raises(NonFiniteError):
        answered(ask_readable(asked(0, 1)), {"1": NonFiniteError("a reward is not finite")})
