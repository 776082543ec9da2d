"""What an engine is: requests in, replies out, batching its own private business."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from nabla_core.requests import Request
from nabla_core.types import Cost

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Reply(Generic[R]):
    """A request's answer and what it cost."""

    value: R
    cost: Cost = field(default_factory=Cost)


Result = Reply[Any] | Exception


class Engine(Protocol):
    """Serves some kinds of request. `submit` queues, `step` does a bounded piece of work.

    `waiting` counts requests submitted and not answered, `capacity` how many it serves best
    at once. A step returns what it finished, in any order; it may finish nothing, but as
    long as something waits, repeated steps finish it. An exception as a result belongs to
    that request alone.
    """

    @property
    def kinds(self) -> tuple[type[Request[Any]], ...]: ...
    @property
    def waiting(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    def submit(self, ticket: int, request: Request[Any]) -> None: ...
    def step(self) -> list[tuple[int, Result]]: ...
    def forget(self) -> None:
        """Drop everything submitted."""


class BatchEngine(ABC):
    """An engine that is one function from a list of requests to the list of their results."""

    kinds: tuple[type[Request[Any]], ...]

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"batch size must be at least 1, got {capacity}")
        self.capacity = capacity
        self._queue: list[tuple[int, Any]] = []

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def submit(self, ticket: int, request: Request[Any]) -> None:
        self._queue.append((ticket, request))

    def forget(self) -> None:
        self._queue.clear()

    def step(self) -> list[tuple[int, Result]]:
        taken = self.take()
        results = self._isolating([request for _, request in taken])
        return [(ticket, result) for (ticket, _), result in zip(taken, results, strict=True)]

    def take(self) -> list[tuple[int, Any]]:
        """Remove the next batch from the queue: the oldest `capacity` requests."""
        taken, self._queue = self._queue[: self.capacity], self._queue[self.capacity :]
        return taken

    @abstractmethod
    def answer(self, requests: Sequence[Any]) -> Sequence[Result]:
        """Results in the order of the requests."""

    def _isolating(self, requests: Sequence[Any]) -> list[Result]:
        """Answer; where the batch as a whole fails, halve it until the culprit is alone.

        Also what turns a batch too large for the memory into two that fit.
        """
        try:
            return list(self.answer(requests))
        except Exception as error:  # noqa: BLE001 - becomes the one request's result
            if len(requests) == 1:
                return [error]
            half = len(requests) // 2
        return self._isolating(requests[:half]) + self._isolating(requests[half:])


class Engines:
    """The engines of one process, and which serves what."""

    def __init__(self, *engines: Engine) -> None:
        self.engines = engines
        self._serving = {kind: engine for engine in engines for kind in engine.kinds}

    def serving(self, kind: type[Request[Any]]) -> Engine:
        """The engine for a kind of request; KeyError-free: names what is served."""
        engine = self._serving.get(kind)
        if engine is None:
            served = ", ".join(sorted(k.__name__ for k in self._serving))
            raise LookupError(f"no engine serves {kind.__name__}; served: {served}")
        return engine
