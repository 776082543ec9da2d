"""A toy LM, judge and guide as plain functions of tokens, and engines that serve them. Methods are
compared on it with literal versions, word for word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nabla_core import Prompt
from nabla_core.config import Sampling
from nabla_core.draws import DrawKey, uniform
from nabla_core.engines.base import BatchEngine, Engines
from nabla_core.requests import (
    Context,
    Decode,
    Judged,
    Nudge,
    Nudges,
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

STOP, SEPARATOR = 0, 9
TOKENS = (STOP, 1, 2, 3, SEPARATOR)
Tokens = tuple[int, ...]


def chance(name: str, tokens: Tokens, number: int = 0) -> float:
    """A number in [0, 1) for each text: no law, but nothing coincides."""
    return uniform(DrawKey(0, name, 0, str(tokens)), number)


def law(prefix: Tokens) -> dict[int, float]:
    """The LM: the probability of each next token."""
    weights = {t: chance("law", prefix, t) ** 3 for t in TOKENS}
    return {t: weight / sum(weights.values()) for t, weight in weights.items()}


def entropy(prefix: Tokens) -> float:
    return -sum(p * math.log(p) for p in law(prefix).values())


def reward(tokens: Tokens) -> float:
    return 10 * chance("reward", tokens)


def advantage(tokens: Tokens, position: int, token: int) -> float:
    """What the guide says of another token at a position of a response."""
    return chance(f"guide {position}", tokens, token) - 0.5


def generate(
    prefix: Tokens, limit: int, key: DrawKey | None = None, *, until: int | None = None
) -> Tokens:
    """To the stop token, to `limit` tokens, or behind `until`. Without a key always the likeliest
    token."""
    tokens = prefix
    while len(tokens) < limit and tokens[-1:] != (STOP,):
        probabilities = law(tokens)
        if key is None:
            new = max(probabilities, key=probabilities.__getitem__)
        else:
            left = uniform(key, len(tokens))
            new = next(t for t, p in probabilities.items() if (left := left - p) < 0)
        tokens = (*tokens, new)
        if new == until:
            break
    return tokens


def likeliest(prefix: Tokens, count: int, without: int) -> list[int]:
    probabilities = law(prefix)
    ordered = sorted(TOKENS, key=probabilities.__getitem__, reverse=True)
    return [t for t in ordered if t != without][:count]


class Toy(BatchEngine):
    """`judges`: a sweep gives the reward."""

    kinds = (Render, Decode, Rollout, Score, Sweep, Nudge)

    def __init__(self, capacity: int = 8, *, judges: bool = False) -> None:
        super().__init__(capacity)
        self._judges = judges

    def answer(self, requests: Sequence[Any]) -> Sequence[Result]:
        return [self._reply(request) for request in requests]

    def _reply(self, request: Any) -> Result:
        reply: Reply[Any]
        match request:
            case Render(prompt):
                reply = Reply(Context(prompt.text, (7,), ((7,), ()), ((7,), ()), prompt.id))
            case Decode(sequences):
                reply = Reply([".".join(map(str, tokens)) for tokens in sequences])
            case Rollout():
                reply = self._rollout(request)
            case Score(tokens=tokens):
                reply = Reply(Judged(reward(tokens)), Cost(paper_calls=request.paper_calls))
            case Sweep(response=response, boundary=boundary):
                judged = Judged(reward(response.tokens)) if self._judges else None
                reply = Reply(Swept(judged, (response.tokens, boundary)), Cost(paper_calls=4))
            case Nudge(gradients=(tokens, boundary), position=i):
                later = range(boundary, len(tokens))
                threshold = request.entropy_threshold
                positions = tuple(n for n in later if entropy(tokens[:n]) >= threshold)
                options = [] if i is None else likeliest(tokens[:i], request.top_k, tokens[i])
                found = {t: advantage(tokens, i or 0, t) for t in options}
                best = tuple(sorted(found, key=found.__getitem__, reverse=True))
                reply = Reply(Nudges(positions, best, tuple(found[t] for t in best)))
            case _:
                raise TypeError(request)
        return reply

    def _rollout(self, request: Rollout) -> Reply[Any]:
        greedy = request.sampling == Sampling(0)
        until = None if request.until is None else int(request.until)
        key = None if greedy else request.key
        tokens = generate(request.prefix, request.max_tokens, key, until=until)
        new = len(tokens) - len(request.prefix)
        cost = Cost(rollouts=1, generated_tokens=new, paper_calls=new)
        return Reply(Response(tokens, "stop" if tokens[-1] == STOP else "length"), cost)


def engines(*, judges: bool = False) -> Engines:
    return Engines(Toy(judges=judges))


def prompt(number: int) -> Prompt:
    return Prompt.of("question", id=f"p{number}")
