"""What an engine is: requests in, replies out, batching its own private business."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from nabla_core.config import NablaConfig
from nabla_core.requests import Reply, Request, Result
from nabla_core.types import Cost, Identity

R = TypeVar("R")


class Engine(Protocol):
    """Serves some kinds of request. `submit` queues, `step` does a bounded piece of work.

    `waiting` counts requests submitted and not answered, `capacity` how many it serves best
    at once; a `cheap` one is served as soon as anything waits. A step returns what it
    finished, in any order; it may finish nothing, but as long as something waits, repeated
    steps finish it. An exception as a result belongs to that request alone.
    """

    @property
    def kinds(self) -> tuple[type[Request[Any]], ...]: ...
    @property
    def waiting(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def cheap(self) -> bool: ...
    def submit(self, ticket: int, request: Request[Any]) -> None: ...
    def step(self) -> list[tuple[int, Result]]: ...
    def forget(self) -> None:
        """Drop everything submitted."""


class BatchEngine(ABC):
    """An engine that is one function from a list of requests to the list of their results."""

    kinds: tuple[type[Request[Any]], ...]
    cheap = False

    def __init__(self, capacity: int, max_batch_tokens: int = 1 << 62) -> None:
        if capacity < 1:
            raise ValueError(f"batch size must be at least 1, got {capacity}")
        self.capacity = capacity
        self.max_batch_tokens = max_batch_tokens
        self._queue: list[tuple[int, Any]] = []

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def submit(self, ticket: int, request: Request[Any]) -> None:
        self._queue.append((ticket, request))

    def forget(self) -> None:
        self._queue.clear()

    def step(self) -> list[tuple[int, Result]]:
        if not self._queue:
            return []
        taken = self.take()
        results = self._isolating([request for _, request in taken])
        return [(ticket, result) for (ticket, _), result in zip(taken, results, strict=True)]

    def take(self) -> list[tuple[int, Any]]:
        """Remove the next batch from the queue: the oldest request and those nearest to it
        in size, within `capacity` rows and `max_batch_tokens` padded tokens."""
        oldest = self.size(self._queue[0][1])
        order = sorted(
            range(len(self._queue)), key=lambda i: (abs(self.size(self._queue[i][1]) - oldest), i)
        )
        chosen: list[int] = []
        widest = 0
        for i in order[: self.capacity]:
            widest = max(widest, self.size(self._queue[i][1]))
            if chosen and widest * (len(chosen) + 1) > self.max_batch_tokens:
                break
            chosen.append(i)
        taken = [self._queue[i] for i in sorted(chosen)]
        left = set(range(len(self._queue))) - set(chosen)
        self._queue = [self._queue[i] for i in sorted(left)]
        return taken

    def size(self, request: Any) -> int:
        """How many tokens a request feeds, for batching like with like."""
        return 1

    @abstractmethod
    def answer(self, requests: Sequence[Any]) -> Sequence[Result]:
        """Results in the order of the requests."""

    def _isolating(self, requests: Sequence[Any]) -> list[Result]:
        """Answer; where the batch as a whole fails, halve it until the culprit is alone.

        Also what turns a batch too large for the memory into two that fit.
        """
        started = time.perf_counter()
        try:
            results = self.answer(requests)
            share = Cost(seconds=(time.perf_counter() - started) / len(requests))
            return [Reply(r.value, r.cost + share) if isinstance(r, Reply) else r for r in results]
        except Exception as error:  # noqa: BLE001 - becomes the one request's result
            if len(requests) == 1:
                return [error]
            half = len(requests) // 2
        return self._isolating(requests[:half]) + self._isolating(requests[half:])


class Engines:
    """The engines of one process, which serves what, and the models behind them by role.

    `check(config)` raises ModelError where the guide cannot serve a config of the loop.
    """

    def __init__(
        self,
        *engines: Engine,
        identities: dict[str, Identity] | None = None,
        check: Callable[[NablaConfig], None] = lambda config: None,
    ) -> None:
        self.engines = engines
        self.identities = identities or {}
        self.check = check
        self._serving = {kind: engine for engine in engines for kind in engine.kinds}

    def serving(self, kind: type[Request[Any]]) -> Engine:
        """The engine for a kind of request; KeyError-free: names what is served."""
        engine = self._serving.get(kind)
        if engine is None:
            served = ", ".join(sorted(k.__name__ for k in self._serving))
            raise LookupError(f"no engine serves {kind.__name__}; served: {served}")
        return engine
