"""A scripted engine for the loop: tokens are numbers, every request is on record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nabla_core import NablaConfig, Prompt, Trace, drive, nabla
from nabla_core.engines.base import BatchEngine, Engines
from nabla_core.requests import (
    Context,
    Decode,
    Judged,
    Proposal,
    Propose,
    Render,
    Reply,
    Response,
    Result,
    Rollout,
    Score,
    Sweep,
    Swept,
)
from nabla_core.types import Cost

STOP = 0
PROMPT = Prompt.of("question", id="q")
CONTEXT = Context("question", (7,), ((7,), ()), ((7,), ()))
Tokens = tuple[int, ...]


@dataclass
class Script:
    """`tail(prefix)` continues a response, `reward` judges it, `revisions` are (position,
    token) pairs a sweep of a response proposes."""

    tail: Callable[[Tokens], Tokens]
    reward: Callable[[Tokens], float]
    revisions: Callable[[Tokens], list[tuple[int, int]]]
    judges: bool = False
    score: Callable[[int, int], float] = lambda position, token: 0.0
    asked: list[Any] = field(default_factory=list)

    def of(self, kind: type) -> list[Any]:
        return [request for request in self.asked if isinstance(request, kind)]


class Scripted(BatchEngine):
    kinds = (Render, Decode, Rollout, Score, Sweep, Propose)

    def __init__(self, script: Script) -> None:
        super().__init__(capacity=8)
        self._script = script

    def answer(self, requests: Sequence[Any]) -> Sequence[Result]:
        self._script.asked.extend(requests)
        return [Reply(self._value(request), Cost(paper_calls=1)) for request in requests]

    def _value(self, request: Any) -> Any:
        script = self._script
        match request:
            case Render():
                return CONTEXT
            case Decode(sequences, special):
                mark = "!" if special else ""
                return [mark + ".".join(map(str, tokens)) for tokens in sequences]
            case Rollout(prefix=prefix, max_tokens=limit):
                ended = prefix[-1:] == (STOP,) or len(prefix) >= limit
                tokens = prefix if ended else (*prefix, *script.tail(prefix))[:limit]
                finish = "stop" if tokens[-1] == STOP else "length"
                return Response(tokens, finish, cache=("lm", tokens))
            case Score(tokens=tokens):
                return Judged(script.reward(tokens), cache=("judge", tokens))
            case Sweep(response=response):
                judged = Judged(script.reward(response.tokens), cache=("sweep", response.tokens))
                return Swept(judged if script.judges else None, ("g", response.tokens))
            case Propose(gradients=(_, tokens), boundary=boundary, count=count, tried=tried):
                return [
                    Proposal(
                        position=i,
                        from_token=tokens[i],
                        to_token=b,
                        confidence=0.5,
                        grad_norm=2.0,
                        advantage=0.25,
                        score=script.score(i, b),
                    )
                    for i, b in script.revisions(tokens)
                    if i >= boundary and (i, b) not in tried
                ][:count]


def run(script: Script, config: NablaConfig | None = None, *, max_tokens: int = 6) -> Trace:
    flow = nabla(PROMPT, config or NablaConfig(), seed=3, max_tokens=max_tokens)
    (trace,) = drive([flow], Engines(Scripted(script)))
    return trace


def counting(prefix: Tokens) -> Tokens:
    """1 2 3 4 and the stop token, from wherever the prefix ends."""
    return (*range(len(prefix) + 1, 5), STOP)


def every_position(tokens: Tokens) -> list[tuple[int, int]]:
    return [(i, t + 10) for i, t in enumerate(tokens) if t != STOP]


def total(tokens: Tokens) -> float:
    return float(sum(tokens))
