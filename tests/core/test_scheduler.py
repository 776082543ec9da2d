"""The scheduler against engines that only add."""

from __future__ import annotations

from typing import Any

import pytest

from nabla_core.engines.base import Engines
from nabla_core.requests import Flow, ask, ask_all
from nabla_core.scheduler import Scheduler, drive
from tests.core.adding import (
    Double,
    Doubling,
    Negate,
    Negating,
    Unheard,
    doubled,
    results,
    trace,
)


def test_every_reply_reaches_the_flow_that_asked():
    def two_steps(number: int) -> Flow:
        once = yield from ask(Double(number))
        twice = yield from ask(Double(once))
        back = yield from ask(Negate(twice))
        return trace(number, once, twice, back)

    done = results([two_steps(n) for n in range(1, 11)], Doubling(), Negating(), in_flight=7)
    assert {k: t.tokens for k, t in done.items()} == {
        str(n): (2 * n, 4 * n, -4 * n) for n in range(1, 11)
    }


def test_ask_all_replies_in_the_order_of_the_requests_across_engines_and_batches():
    def many(number: int) -> Flow:
        replies = yield from ask_all(
            [(Double if k % 3 else Negate)(10 * number + k) for k in range(9)]
        )
        return trace(number, *replies)

    done = results([many(1), many(2)], Doubling(capacity=2), Negating(capacity=3))
    for n in (1, 2):
        assert done[str(n)].tokens == tuple(
            2 * (10 * n + k) if k % 3 else -(10 * n + k) for k in range(9)
        )


def test_ask_all_of_nothing_asks_nothing():
    def idle() -> Flow:
        replies = yield from ask_all([])
        return trace("idle", len(replies))

    engine = Doubling()
    assert results([idle()], engine)["idle"].tokens == (0,)
    assert engine.batches == []


def test_a_flow_that_yields_no_request_is_sent_no_reply_and_goes_on():
    def empty() -> Flow:
        replies = yield ()
        assert list(replies) == []
        answer = yield from ask(Double(4))
        return trace("empty", answer)

    assert results([empty()], Doubling())["empty"].tokens == (8,)


def test_requests_of_one_kind_are_served_together():
    doubling, negating = Doubling(capacity=4), Negating(capacity=4)

    def both(number: int) -> Flow:
        answer = yield from ask(Double(number))
        other = yield from ask(Negate(answer))
        return trace(number, other)

    results([both(n) for n in range(12)], doubling, negating)
    assert [len(batch) for batch in doubling.batches] == [4, 4, 4]
    assert [len(batch) for batch in negating.batches] == [4, 4, 4]


def test_the_fullest_engine_is_served_first():
    doubling, negating = Doubling(capacity=4), Negating(capacity=4)

    def negated(number: int) -> Flow:
        answer = yield from ask(Negate(number))
        return trace(number, answer)

    scheduler = Scheduler(Engines(doubling, negating))
    done: list[object] = []
    for flow in (doubled(1), negated(2), negated(3)):
        scheduler.submit(flow, done.append)
    scheduler.step()
    assert (doubling.batches, negating.batches) == ([], [[2, 3]])
    assert scheduler.in_flight == 1
    scheduler.step()
    assert scheduler.in_flight == 0
    assert len(done) == 3


def test_a_cheap_engine_is_served_before_a_fuller_one():
    doubling, negating = Doubling(capacity=2), Negating(capacity=1000)
    negating.cheap = True

    def negated(number: int) -> Flow:
        answer = yield from ask(Negate(number))
        return trace(number, answer)

    scheduler = Scheduler(Engines(doubling, negating))
    for flow in (doubled(1), doubled(2), negated(3)):
        scheduler.submit(flow, lambda _: None)
    scheduler.step()
    assert (doubling.batches, negating.batches) == ([], [[3]])
    scheduler.step()
    assert doubling.batches == [[1, 2]]


def test_no_more_flows_are_started_than_may_be_in_flight():
    started: list[int] = []

    def counted(number: int) -> Flow:
        started.append(number)
        yield from ask(Double(number))
        return trace(number)

    finished = 0
    for _ in drive((counted(n) for n in range(20)), Engines(Doubling(2)), in_flight=5):
        finished += 1
        assert len(started) <= finished + 5
    assert finished == 20


def test_a_request_that_fails_ends_its_own_flow_alone():
    engine = Doubling(bad={3: "itself"})
    failures: dict[int, Exception] = {}
    done = results(
        [doubled(n) for n in range(6)], engine, failed=lambda i, e: failures.update({i: e})
    )
    assert sorted(done) == ["0", "1", "2", "4", "5"]
    assert list(failures) == [3]
    assert str(failures[3]) == "cannot answer 3"


def test_without_a_taker_a_failure_is_raised():
    with pytest.raises(ValueError, match="cannot answer 3"):
        results([doubled(n) for n in range(6)], Doubling(bad={3: "itself"}))


def test_a_flow_may_catch_a_failure_and_ask_again():
    def persistent(number: int) -> Flow:
        try:
            answer = yield from ask(Double(number))
        except ValueError:
            answer = yield from ask(Double(number + 1))
        return trace(number, answer)

    done = results([persistent(3)], Doubling(bad={3: "itself"}))
    assert done["3"].tokens == (8,)


def test_one_failure_of_several_requests_is_thrown_once_all_have_answered():
    caught: list[str] = []

    def several() -> Flow:
        try:
            yield from ask_all([Double(1), Double(3), Negate(2)])
        except ValueError as error:
            caught.append(str(error))
        answer = yield from ask(Double(7))
        return trace("several", answer)

    done = results([several()], Doubling(bad={3: "itself"}), Negating())
    assert caught == ["cannot answer 3"]
    assert done["several"].tokens == (14,)


def test_costs_of_a_flow_add_up_and_stay_its_own():
    def costly(number: int) -> Flow:
        yield from ask_all([Double(number), Double(10 * number), Negate(100 * number)])
        yield from ask(Negate(number))
        return trace(number)

    done = results([costly(1), costly(2), costly(3)], Doubling(), Negating())
    for n in (1, 2, 3):
        cost = done[str(n)].cost
        assert (cost.rm_forward, cost.token_passes) == (4, 112 * n)
        assert cost.seconds > 0


def test_an_exception_of_the_flow_itself_is_its_failure():
    def clumsy() -> Flow:
        answer = yield from ask(Double(1))
        raise RuntimeError(f"did not expect {answer}")

    failures: list[tuple[int, str]] = []
    done = results(
        [doubled(0), clumsy(), doubled(2)],
        Doubling(),
        failed=lambda i, e: failures.append((i, str(e))),
    )
    assert sorted(done) == ["0", "2"]
    assert failures == [(1, "did not expect 2")]


def test_a_request_that_no_engine_serves_fails_its_flow_alone():
    def lost() -> Flow:
        yield from ask_all([Double(5), Unheard(1)])
        return trace("lost")

    failures: list[int] = []
    done = results(
        [doubled(1), lost(), doubled(2)], Doubling(), failed=lambda i, _: failures.append(i)
    )
    assert sorted(done) == ["1", "2"]
    assert failures == [1]


def endless(number: int, closed: list[int]) -> Flow:
    try:
        while True:
            yield from ask_all([Double(number), Double(number)])
    finally:
        closed.append(number)


def test_leaving_early_closes_every_flow_in_flight():
    closed: list[int] = []
    engine = Doubling()
    flows = [doubled(0), *(endless(n, closed) for n in (1, 2, 3))]
    driving = drive(flows, Engines(engine))
    assert next(driving).prompt_id == "0"
    driving.close()
    assert sorted(closed) == [1, 2, 3]
    assert engine.waiting == 0


def test_an_error_that_ends_the_drive_closes_every_flow_in_flight():
    closed: list[int] = []
    flows = [endless(1, closed), doubled(3), endless(2, closed)]
    with pytest.raises(ValueError, match="cannot answer 3"):
        list(drive(flows, Engines(Doubling(bad={3: "itself"}))))
    assert sorted(closed) == [1, 2]


def test_a_source_of_flows_that_fails_closes_what_it_started():
    closed: list[int] = []

    def source():
        yield endless(1, closed)
        raise OSError("the prompts ran out of disk")

    with pytest.raises(OSError, match="ran out"):
        list(drive(source(), Engines(Doubling())))
    assert closed == [1]


def test_a_closed_scheduler_starts_afresh():
    closed: list[int] = []
    scheduler = Scheduler(Engines(Doubling()))
    scheduler.submit(endless(1, closed), lambda _: None)
    scheduler.close()
    assert (closed, scheduler.in_flight) == ([1], 0)
    done: list[Any] = []
    scheduler.submit(doubled(4), done.append)
    scheduler.step()
    assert [t.tokens for t in done] == [(8,)]
