"""What a per-prompt generator may ask for, and what it gets back.

A flow is a generator: it yields a tuple of requests and is sent the list of their replies
(`ask` and `ask_all` do both, typed). It computes nothing itself and knows no model. What a
request cost is booked to its flow by the scheduler, so costs stay out of the algorithms.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nabla_core.config import NablaConfig, Sampling
from nabla_core.draws import DrawKey
from nabla_core.errors import UNREADABLE
from nabla_core.types import Cost, FinishReason, Prompt, Trace

R = TypeVar("R")


class Request(Generic[R]):
    """Something an engine can do; `R` is the type of its reply."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Context:
    """A prompt as the models see it.

    `lm` are the LM's ids up to the first response token. `judge` and `guide` are the
    reward models' own ids before and after the response (equal tuples where one model
    plays both roles).
    """

    text: str
    lm: tuple[int, ...]
    judge: tuple[tuple[int, ...], tuple[int, ...]]
    guide: tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Response:
    """Response tokens in LM ids; the stop token is the last one where `finish` is "stop".

    `cache` is the engine's own (a key-value cache to continue from, say); dropping the
    response frees it.
    """

    tokens: tuple[int, ...]
    finish: FinishReason
    cache: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Judged:
    """The judge's reward of a response, and the engine's cache of reading it."""

    reward: float
    cache: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Swept:
    """Reply to `Sweep`. `judged` is None where the judge has not read the response: the
    guide is another model, or no gradient was taken.

    `gradients` is the engine's own handle to `[T, .]` state; pass it to `Propose`.
    """

    judged: Judged | None
    gradients: Any = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Replace the token at `position` by `to_token`. Numbers as in `types.Revision`; `score`
    is what a ranking sorted by (nats, see `config.Ranked`), 0 where nothing was ranked."""

    position: int
    from_token: int
    to_token: int
    confidence: float | None
    grad_norm: float
    advantage: float
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Choices:
    """The LM's likeliest tokens at one position and their log-probabilities, the token taken
    first and the others in falling order. `confidence` is the LM's top probability."""

    confidence: float
    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Render(Request[Context]):
    """Turn a prompt into ids: chat template, system prompt, checks of length."""

    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Decode(Request[list[str]]):
    """Texts of token sequences, special tokens left out unless `special`."""

    sequences: tuple[tuple[int, ...], ...]
    special: bool = False


@dataclass(frozen=True, slots=True)
class Rollout(Request[Response]):
    """Continue `prefix` to the stop token or to `max_tokens` response tokens in all.

    The reply holds the whole response, prefix included. A prefix that already ends in the
    stop token or reaches the limit comes back as it is: nothing is generated. `reuse` is
    the `cache` of a response that shares the prompt and all but the last prefix token;
    with `return_cache` the reply carries one.
    """

    context: Context
    prefix: tuple[int, ...]
    max_tokens: int
    sampling: Sampling
    key: DrawKey
    reuse: Any = field(default=None, compare=False, repr=False)
    return_cache: bool = False


@dataclass(frozen=True, slots=True)
class Score(Request[Judged]):
    """The judge's reward of a response. `paper_calls`: 2 in an acceptance test, else 1.

    `reuse` is the `cache` of a judged response that shares a prefix with this one; with
    `return_cache` the reply carries a cache.
    """

    context: Context
    tokens: tuple[int, ...]
    paper_calls: int = 1
    reuse: Any = field(default=None, compare=False, repr=False)
    return_cache: bool = False


@dataclass(frozen=True, slots=True)
class Sweep(Request[Swept]):
    """One forward and backward pass of LM and guide over a response.

    Serves every selection and first DTO gradient at positions from `boundary` on.
    `previous` is the `gradients` of a response with the same tokens before `boundary`.
    """

    context: Context
    response: Response
    boundary: int
    config: NablaConfig
    previous: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Propose(Request[list[Proposal]]):
    """The next `count` proposals of a sweep; fewer mean that no more are left.

    Left to right: at positions from `boundary` on, in order, positions whose token does
    not change left out. Ranked: best first, pairs in `tried` left out.
    """

    gradients: Any = field(compare=False, repr=False)
    boundary: int
    count: int
    key: DrawKey
    tried: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Likeliest(Request[list[Choices]]):
    """The LM's `count` likeliest tokens at every position of a response, the token taken among
    them."""

    context: Context
    response: Response
    count: int


Asking = Generator[Sequence[Request[Any]], Sequence[Any], R]
Flow = Asking[Trace]


def ask(request: Request[R]) -> Asking[R]:
    """Ask for one thing: `reply = yield from ask(request)`."""
    replies = yield (request,)
    reply: R = replies[0]
    return reply


def ask_all(requests: Sequence[Request[R]]) -> Asking[list[R]]:
    """Ask for several things at once; replies come in the order of the requests."""
    if not requests:
        return []
    replies = yield tuple(requests)
    return list(replies)


def ask_readable(requests: Sequence[Request[R]]) -> Asking[list[R | None]]:
    """As `ask_all`; None where a reward model cannot read what it is asked about. An error is all
    that comes of requests with such a one among them, so halves are asked again."""
    try:
        return [*(yield from ask_all(requests))]
    except UNREADABLE:
        if len(requests) == 1:
            return [None]
        half = len(requests) // 2
        first = yield from ask_readable(requests[:half])
        return first + (yield from ask_readable(requests[half:]))


@dataclass(frozen=True, slots=True)
class Reply(Generic[R]):
    """A request's answer and what it cost."""

    value: R
    cost: Cost = field(default_factory=Cost)


Result = Reply[Any] | Exception
