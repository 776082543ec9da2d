"""Batch engines: which requests go together, and what becomes of a bad one."""

from __future__ import annotations

import pytest

from nabla_core.engines.base import answer_by_group
from nabla_core.requests import Flow, Reply, Result, ask
from tests.core.adding import (
    Double,
    Doubling,
    Negating,
    Unheard,
    doubled,
    results,
    trace,
)


def test_a_failing_batch_is_halved_until_the_culprit_is_alone():
    engine = Doubling(capacity=8, bad={5: "whole batch"})
    failures: dict[int, Exception] = {}
    done = results(
        [doubled(n) for n in range(8)], engine, failed=lambda i, e: failures.update({i: e})
    )
    assert engine.batches == [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [4, 5],
        [4],
        [5],
        [6, 7],
    ]
    assert sorted(done) == ["0", "1", "2", "3", "4", "6", "7"]
    assert {k: t.tokens for k, t in done.items()}["7"] == (14,)
    assert str(failures[5]) == "cannot take 5"


def test_a_request_that_no_engine_serves_is_named():
    def lost() -> Flow:
        yield from ask(Unheard(1))
        return trace("lost")

    with pytest.raises(LookupError, match=r"no engine serves Unheard; served: Double, Negate"):
        results([lost()], Doubling(), Negating())


class Sized(Doubling):
    """A request is as large as its number."""

    def size(self, request: Double) -> int:
        return request.number


def test_batches_hold_like_sizes_within_the_token_limit():
    engine = Sized(capacity=3)
    engine.max_batch_tokens = 40
    for ticket, number in enumerate([10, 30, 11, 9, 12, 31]):
        engine.submit(ticket, Double(number))
    while engine.waiting:
        engine.step()
    # The oldest first, with its nearest; 3 * 11 <= 40; 30 and 31 fit no batch of two.
    assert engine.batches == [[10, 11, 9], [30], [12], [31]]


def test_a_request_beyond_the_token_limit_is_served_alone():
    engine = Sized(capacity=3)
    engine.max_batch_tokens = 5
    engine.submit(1, Double(100))
    assert [result.value for _, result in engine.step()] == [200]


def test_an_engine_without_capacity_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Doubling(capacity=0)


def test_groups_are_answered_one_at_a_time_and_results_keep_their_order():
    calls: list[tuple[bool, list[int]]] = []

    def answer(odd: bool, numbers: list[int]) -> list[Result]:
        calls.append((odd, numbers))
        return [Reply(10 * n) for n in numbers]

    found = answer_by_group([3, 4, 1, 2], lambda n: n % 2 == 1, answer)
    assert [reply.value for reply in found if isinstance(reply, Reply)] == [30, 40, 10, 20]
    assert calls == [(True, [3, 1]), (False, [4, 2])]
