"""Many prompts in flight, one engine batch at a time.

Every flow waits for the replies to its last requests. The scheduler passes requests to the
engine that serves their kind, and steps the engine with the fullest batch, cheap engines first.
It never waits for a timer. The results of a step go back to their flows, which send new requests
or finish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from nabla_core.engines.base import Engine, Engines
from nabla_core.requests import Reply, Request, RequestGenerator, Spent
from nabla_core.types import Cost

# What a flow returns: a trace, or another record with a `cost`.
R = TypeVar("R")
Done = Callable[[R | Exception], None]


@dataclass(eq=False)
class _Running:
    """A flow that waits: `replies` arrive in any order, `missing` counts those that have not."""

    flow: RequestGenerator[Any]
    done: Done[Any]
    cost: Cost = field(default_factory=Cost)
    replies: list[Any] = field(default_factory=list)
    missing: int = 0


class Scheduler:
    """Runs flows to their ends. Not thread-safe: one thread submits and steps.

    A flow returns a dataclass with a field `cost`, which the scheduler fills in.

    An exception that an engine returns for a request is thrown into the flow that sent it. Unless
    the flow catches it, that flow alone ends, and `done` receives the exception.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._owner: dict[int, tuple[_Running, int]] = {}
        self._tickets = 0
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Flows submitted and not finished."""
        return self._in_flight

    def submit(self, flow: RequestGenerator[R], done: Done[R]) -> None:
        """Start a flow; `done` is called once, with its result or its exception."""
        self._in_flight += 1
        self._advance(_Running(flow, done), lambda: next(flow))

    def step(self) -> None:
        """Run one batch of a cheap engine that has work, else of the engine with the fullest
        batch, and advance the flows that got their last reply."""
        engine = max(self._engines.engines, key=_fullness)
        # Flows are advanced when all results are recorded: a flow may submit to the same engine.
        served: dict[int, _Running] = {}
        for ticket, result in engine.step():
            running, index = self._owner.pop(ticket)
            running.replies[index] = result
            running.missing -= 1
            if isinstance(result, Reply):
                running.cost += result.cost
            # Not before its last reply: of several failures one is thrown, once.
            if running.missing == 0:
                served[id(running)] = running
        for running in served.values():
            self._advance(running, _answer(running))

    def close(self) -> None:
        """Abandon every flow: their `finally` blocks run, `done` is not called."""
        for running, _ in list(self._owner.values()):
            running.flow.close()
        self._owner.clear()
        self._in_flight = 0
        for engine in self._engines.engines:
            engine.forget()

    def _advance(self, running: _Running, move: Callable[[], Iterable[Request[Any]]]) -> None:
        while True:
            try:
                requests = list(move())
            except StopIteration as stop:
                return self._finish(running, replace(stop.value, cost=running.cost))
            except Exception as error:  # noqa: BLE001 - handed to `done`, the flow's owner
                return self._finish(running, error)
            # The loop ends when something was submitted. A flow that asked for nothing, or for what
            # no engine serves, is answered at once.
            running.replies = [None] * len(requests)
            running.missing = len(requests)
            for index, request in enumerate(requests):
                self._submit(running, index, request)
            if running.missing:
                return None
            move = _answer(running)

    def _submit(self, running: _Running, index: int, request: Request[Any]) -> None:
        if isinstance(request, Spent):
            running.replies[index] = Reply(running.cost)
            running.missing -= 1
            return
        try:
            engine = self._engines.serving(type(request))
        except LookupError as error:
            running.replies[index] = error
            running.missing -= 1
        else:
            self._tickets += 1
            self._owner[self._tickets] = (running, index)
            engine.submit(self._tickets, request)

    def _finish(self, running: _Running, result: Any) -> None:
        self._in_flight -= 1
        running.done(result)


def _answer(running: _Running) -> Callable[[], Iterable[Request[Any]]]:
    """How a flow continues: with its replies, or with the first exception among them."""
    failure = next((r for r in running.replies if isinstance(r, Exception)), None)
    if failure is not None:
        error = failure
        return lambda: running.flow.throw(error)
    values = [reply.value for reply in running.replies]
    return lambda: running.flow.send(values)


def _fullness(engine: Engine) -> float:
    if engine.cheap and engine.waiting:
        return float("inf")
    return min(engine.waiting, engine.capacity) / engine.capacity


def drive(
    flows: Iterable[RequestGenerator[R]],
    engines: Engines,
    *,
    in_flight: int = 96,
    failed: Callable[[int, Exception], None] | None = None,
) -> Iterator[R]:
    """Yield results as flows finish, in no particular order.

    Runs `in_flight` flows at a time. Three times the batch size is a good number: with exactly
    the batch size, flows drift apart and batches are nearly empty. The exception of a flow is
    raised here, unless `failed` is given: it then gets the flow's index and the exception, and
    the other flows go on.
    """
    scheduler = Scheduler(engines)
    finished: list[tuple[int, R | Exception]] = []
    source = enumerate(flows)
    exhausted = False
    try:
        while not exhausted or scheduler.in_flight:
            while not exhausted and scheduler.in_flight < in_flight:
                index, flow = next(source, (-1, None))
                if flow is None:
                    exhausted = True
                else:
                    # `i=index` binds the value of now: the variable changes with the loop.
                    scheduler.submit(flow, lambda r, i=index: finished.append((i, r)))  # type: ignore[misc]
            if scheduler.in_flight:
                scheduler.step()
            for index, result in finished:
                if not isinstance(result, Exception):
                    yield result
                elif failed is not None:
                    failed(index, result)
                else:
                    raise result
            finished.clear()
    finally:
        scheduler.close()
