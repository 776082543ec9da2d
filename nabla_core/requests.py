"""What a generator may ask for, and what it gets back.

A flow is the generator of one prompt. It yields a tuple of requests and is sent the list of
their replies (`ask` and `ask_all` do both, typed). It runs no model itself. The scheduler adds
the cost of every reply to its flow, so the algorithms need not count.
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

    `lm`: the LM's ids up to the first response token. `judge` and `guide`: the ids of these
    models before and after the response, in their own vocabularies (equal where one model has
    both roles). `prompt_id` names the prompt in errors.
    """

    text: str
    lm: tuple[int, ...]
    judge: tuple[tuple[int, ...], tuple[int, ...]]
    guide: tuple[tuple[int, ...], tuple[int, ...]]
    prompt_id: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """Response tokens in LM ids; the stop token is the last one where `finish` is "stop".

    `cache` belongs to the engine, which may continue from it (keys and values of the tokens).
    It is freed with the response.
    """

    tokens: tuple[int, ...]
    finish: FinishReason
    cache: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Judged:
    """The judge's reward of a response, and the engine's prefix cache from reading it."""

    reward: float
    cache: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Swept:
    """Reply to `Sweep`. `judged` is None where the judge has not read the response: the
    guide is another model, or no gradient was taken.

    `gradients` is a handle to what the engine keeps of the sweep (`guides.base.Gradients`); pass
    it to `Propose`. `log_probabilities` (nats) are the LM's of the response tokens from the
    sweep's boundary on, or None where the engine has none.
    """

    judged: Judged | None
    gradients: Any = field(compare=False, repr=False)
    log_probabilities: tuple[float, ...] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Replace the token at `position` by `to_token`.

    `confidence`, `grad_norm` and `advantage` as in `types.Revision`. `score` (nats) is what a
    ranking sorts by, see `config.Ranked`; 0 where nothing was ranked.
    """

    position: int
    from_token: int
    to_token: int
    confidence: float | None = None
    grad_norm: float = 0.0
    advantage: float = 0.0
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Choices:
    """The LM's most probable tokens at one position and their log-probabilities (nats): first the
    token of the response, then the others in descending order, then tokens of the prompt likewise.
    `confidence` is the LM's top probability."""

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
    the `cache` of a response with the same prompt and the same prefix but for its last token;
    with `return_cache` the reply has a cache too. `until`: the response ends, too, with the first
    new token whose text holds this string; its `finish` is then "length", as it is not over.
    """

    context: Context
    prefix: tuple[int, ...]
    max_tokens: int
    sampling: Sampling
    key: DrawKey
    reuse: Any = field(default=None, compare=False, repr=False, kw_only=True)
    return_cache: bool = field(default=False, kw_only=True)
    until: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Score(Request[Judged]):
    """The judge's reward of a response. `paper_calls`: 2 in an acceptance test, else 1.

    `reuse` is the `cache` of a judged response that shares a prefix with this one; with
    `return_cache` the reply has a cache too.
    """

    context: Context
    tokens: tuple[int, ...]
    paper_calls: int = field(default=1, kw_only=True)
    reuse: Any = field(default=None, compare=False, repr=False, kw_only=True)
    return_cache: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Sweep(Request[Swept]):
    """One forward and backward pass of LM and guide over a response.

    One sweep serves the selection and the first DTO gradient at every position from `boundary`
    on. `previous`: the `gradients` of a response with the same tokens before `boundary`.
    """

    context: Context
    response: Response
    boundary: int
    config: NablaConfig
    previous: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Propose(Request[list[Proposal]]):
    """The next `count` proposals of a sweep. Fewer come back only where no more are left.

    Left to right: at positions from `boundary` on, in order, without those whose token does
    not change. Ranked: best first, without the (position, token) pairs in `tried`.
    """

    gradients: Any = field(compare=False, repr=False)
    boundary: int
    count: int
    key: DrawKey
    tried: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Likeliest(Request[list[Choices]]):
    """The LM's `count` most probable tokens at every position of a response; the response's own
    token is one of them. Besides them the `copied` most probable tokens of the prompt."""

    context: Context
    response: Response
    count: int
    copied: int = 0


@dataclass(frozen=True, slots=True)
class Spent(Request[Cost]):
    """The cost of the flow so far. The scheduler answers it; it costs nothing."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """What a response tells of KL(policy || reference), in nats, summed over its tokens.

    `reference`: log-probability of the response under the reference LM at temperature 1. `policy`:
    that under the law it was drawn from. `kl`: the sum over its positions of the exact divergence
    of the laws of the next token. Over responses of the policy, `kl` and `policy - reference` have
    the same mean, which is the divergence of the laws of whole responses; `kl` varies less (it is
    the Rao-Blackwellised estimator). Both are None where the law has no formula.
    """

    reference: float
    policy: float | None = None
    kl: float | None = None


@dataclass(frozen=True, slots=True)
class Diverge(Request[Divergence]):
    """Read a response with reference and policy: see `engines.divergence`."""

    context: Context
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Nudges:
    """Reply to `Nudge`. `positions`: where the LM's entropy reaches the threshold, in order.
    `tokens`: what the token at the asked position may be replaced by, best first, and the
    `advantages` that the guide predicts for them."""

    positions: tuple[int, ...]
    tokens: tuple[int, ...]
    advantages: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Nudge(Request[Nudges]):
    """Uncertain positions of a swept response, and the replacements at one of them.

    `gradients` as in `Propose`. `position`: where tokens are ranked by the guide's advantage, among
    the LM's `top_k` most probable ones; None: nowhere. `entropy_threshold` in nats.
    """

    gradients: Any = field(compare=False, repr=False)
    entropy_threshold: float
    position: int | None
    top_k: int


RequestGenerator = Generator[Sequence[Request[Any]], Sequence[Any], R]
Flow = RequestGenerator[Trace]


def ask(request: Request[R]) -> RequestGenerator[R]:
    """Ask for one thing: `reply = yield from ask(request)`."""
    replies = yield (request,)
    reply: R = replies[0]
    return reply


def ask_all(requests: Sequence[Request[R]]) -> RequestGenerator[list[R]]:
    """Ask for several things at once; replies come in the order of the requests."""
    if not requests:
        return []
    replies = yield tuple(requests)
    return list(replies)


def ask_readable(requests: Sequence[Request[R]]) -> RequestGenerator[list[R | None]]:
    """As `ask_all`, with None for a response that a reward model cannot read (`UNREADABLE`)."""
    # One unreadable response fails the whole tuple of requests: bisect to isolate it.
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
