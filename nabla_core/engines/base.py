"""What an engine is: it takes requests and returns results. Each engine chooses its own batches."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, TypeVar

from nabla_core.config import NablaConfig, Sampling, check
from nabla_core.errors import PromptError
from nabla_core.requests import Reply, Request, Result
from nabla_core.types import Cost, Identity

Q = TypeVar("Q")
K = TypeVar("K", bound=Hashable)


class Engine(Protocol):
    """Serves some kinds of request. `submit` queues one, `step` does a bounded piece of work.

    `waiting` is the number of requests that are not answered yet, `capacity` the number that
    the engine serves best at once. The scheduler steps a `cheap` engine as soon as a request
    waits for it. A step returns the requests that it finished, in any order. It may finish
    none, but repeated steps finish every request. An exception as a result
    fails that request alone.
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
        check(capacity >= 1, f"batch size must be at least 1, got {capacity}")
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
        # The oldest request is always in the batch, so none waits for ever. Requests of similar
        # size need little padding.
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
        remaining = set(range(len(self._queue))) - set(chosen)
        self._queue = [self._queue[i] for i in sorted(remaining)]
        return taken

    def size(self, request: Any) -> int:
        """How many tokens a request feeds to a model: requests of similar size are batched."""
        return 1

    @abstractmethod
    def answer(self, requests: Sequence[Any]) -> Sequence[Result]:
        """Results in the order of the requests."""

    def _isolating(self, requests: Sequence[Any]) -> list[Result]:
        """Answer the batch; if it fails as a whole, bisect it to isolate the bad request.

        Bisecting also makes batches that fit, where the whole one ran out of memory.
        """
        started = time.perf_counter()
        try:
            results = self.answer(requests)
            # The batch ran as one pass: its seconds are divided equally.
            share = Cost(seconds=(time.perf_counter() - started) / len(requests))
            return [Reply(r.value, r.cost + share) if isinstance(r, Reply) else r for r in results]
        except Exception as error:  # noqa: BLE001 - becomes the one request's result
            if len(requests) == 1:
                return [_naming_prompt(error, requests[0])]
            half = len(requests) // 2
        # Not inside the handler: there the traceback would keep the failed batch in memory.
        return self._isolating(requests[:half]) + self._isolating(requests[half:])


def _naming_prompt(error: Exception, request: Any) -> Exception:
    """The error of one request; that of a prompt names the prompt."""
    # Models read tokens and do not know whose they are.
    source = getattr(request, "gradients", request)  # a `Propose` has the context of its sweep
    prompt = getattr(getattr(source, "context", None), "prompt_id", "")
    if not isinstance(error, PromptError) or not prompt:
        return error
    return type(error)(f"prompt {prompt}: {error}").with_traceback(error.__traceback__)


def answer_by_group(
    requests: Sequence[Q],
    group_of: Callable[[Q], K],
    answer: Callable[[K, list[Q]], Sequence[Result]],
) -> list[Result]:
    """Results in the order of the requests, which are answered a group at a time."""
    groups: dict[K, list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(group_of(request), []).append(index)
    results: dict[int, Result] = {}
    for group, members in groups.items():
        answers = answer(group, [requests[i] for i in members])
        results.update(zip(members, answers, strict=True))
    return [results[i] for i in range(len(requests))]


class Engines:
    """The engines of one process.

    `identities`: the models behind them by role. `check(config)` raises ModelError where the
    guide cannot serve a config of the loop, `check_sampling(sampling)` where it cannot guide such
    rollouts, `check_system_turns()` and `check_tools()` where a chat template refuses prompts with
    a system turn or with tools.
    """

    def __init__(
        self,
        *engines: Engine,
        identities: dict[str, Identity] | None = None,
        check: Callable[[NablaConfig], None] = lambda config: None,
        check_sampling: Callable[[Sampling], None] = lambda sampling: None,
        check_system_turns: Callable[[], None] = lambda: None,
        check_tools: Callable[[], None] = lambda: None,
    ) -> None:
        self.engines = engines
        self.identities = identities or {}
        self.check = check
        self.check_sampling = check_sampling
        self.check_system_turns = check_system_turns
        self.check_tools = check_tools
        self._serving = {kind: engine for engine in engines for kind in engine.kinds}

    def serving(self, kind: type[Request[Any]]) -> Engine:
        """The engine for a kind of request. Raises LookupError listing the served kinds."""
        engine = self._serving.get(kind)
        if engine is None:
            served = ", ".join(sorted(k.__name__ for k in self._serving))
            raise LookupError(f"no engine serves {kind.__name__}; served: {served}")
        return engine
