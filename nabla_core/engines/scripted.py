"""Engines without a model: plain functions answer, after a delay that you choose.

They test the code around the engines, ours and yours, and measure what that code costs. A token
is a Unicode character, token 0 the stop token.

    engines = scripted(Script(respond=lambda prompt, prefix, key: "4", delay=0.1))

In a job, `lm.path=scripted?delay=0.1` runs on them (see `from_path`). Words in a prompt make the
default script misbehave:

    !raise   fails the prompt               !long    does not fit the context
    !kill    kills the process              !hang    never returns
    !lost    loses the accelerator          !slow    takes fifty batches instead of one
    !after9  goes on until the log has nine lines
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import Any
from urllib.parse import parse_qsl

from nabla_core.draws import DrawKey, uniform
from nabla_core.engines.base import BatchEngine, Engines
from nabla_core.errors import ContextError, ModelError
from nabla_core.requests import (
    Choices,
    Context,
    Decode,
    Judged,
    Likeliest,
    Nudge,
    Nudges,
    Proposal,
    Propose,
    Render,
    Reply,
    Request,
    Response,
    Result,
    Rollout,
    Score,
    Sweep,
    Swept,
)
from nabla_core.types import Cost, Identity

STOP = 0
LENGTH = 8
SLOW = 50

_AFTER = re.compile(r"!after(\d+)")

Respond = Callable[[str, str, DrawKey], str]
Reward = Callable[[str, str], float]
ProposeFunction = Callable[[str, str], Sequence[tuple[int, str, float]]]


def digits(prompt: str, prefix: str, key: DrawKey) -> str:
    """A response of eight digits that starts with `prefix`; the others are drawn by `key`."""
    drawn = (str(int(10 * uniform(key, n))) for n in range(len(prefix), LENGTH))
    return prefix + "".join(drawn)


def mean_digit(prompt: str, response: str) -> float:
    """A reward: the mean of a response's digits."""
    values = [int(c) for c in response if c.isdigit()]
    return sum(values) / len(values) if values else 0.0


def nines(prompt: str, response: str) -> list[tuple[int, str, float]]:
    """Proposals: every character becomes a 9, from left to right."""
    return [(n, "9", 1.0) for n, c in enumerate(response) if c != "9"]


@dataclass(frozen=True)
class Script:
    """What the engines answer.

    `respond(prompt, prefix, key)` returns a whole response that starts with `prefix`;
    `reward(prompt, response)` its reward; `propose(prompt, response)` the revisions a sweep
    finds, best first, as (position, character, advantage). `delay`: seconds a batch of rollouts
    takes. `flops`: FLOPs that a token of a rollout is said to cost. `log`: a file that gets a line
    (the prompt's text) for every rollout served, so that work lost in a crash can be counted.
    """

    respond: Respond = digits
    reward: Reward = mean_digit
    propose: ProposeFunction = nines
    delay: float = 0.0
    flops: float = 0.0
    log: str | None = None

    def lines(self) -> int:
        """The number of lines in the log so far."""
        if self.log is None or not os.path.exists(self.log):
            return 0
        with open(self.log, "rb") as log:
            return log.read().count(b"\n")


def scripted(script: Script | None = None, *, max_batch: int = 32) -> Engines:
    """One engine that serves every kind of request by the script."""
    identity = Identity("scripted", "1")
    return Engines(
        ScriptedEngine(script or Script(), max_batch),
        identities=dict.fromkeys(("lm", "judge", "guide", "tokenizer"), identity),
    )


def from_path(path: str, *, max_batch: int = 32) -> Engines:
    """Engines from a name such as `scripted?delay=0.1&log=/tmp/rollouts&fail=no weights`.

    `fail` raises a ModelError with that message, as a model that cannot be loaded does.
    Raises ModelError on another option too.
    """
    options = dict(parse_qsl(path.partition("?")[2], keep_blank_values=True))
    if "fail" in options:
        raise ModelError(f"{path}: {options['fail']}")
    unknown = set(options) - {"delay", "flops", "log"}
    if unknown:
        raise ModelError(
            f"{path}: options are delay, flops, log, fail; not {', '.join(sorted(unknown))}"
        )
    script = Script(
        delay=float(options.get("delay", 0)),
        flops=float(options.get("flops", 0)),
        log=options.get("log"),
    )
    return scripted(script, max_batch=max_batch)


class ScriptedEngine(BatchEngine):
    """Serves every kind of request by its script."""

    kinds: tuple[type[Request[Any]], ...] = (
        Render,
        Decode,
        Rollout,
        Score,
        Sweep,
        Propose,
        Likeliest,
        Nudge,
    )

    def __init__(self, script: Script, max_batch: int) -> None:
        super().__init__(capacity=max_batch)
        self._script = script
        self._batches: Counter[int] = Counter()

    def step(self) -> list[tuple[int, Result]]:
        """As in any batch engine, but a slow rollout goes back to the queue."""
        served = super().step()
        for ticket, result in served:
            if isinstance(result, _Unfinished):
                self.submit(ticket, result.request)
        return [(t, result) for t, result in served if not isinstance(result, _Unfinished)]

    def answer(self, requests: Sequence[Any]) -> Sequence[Result]:
        rollouts = [r for r in requests if isinstance(r, Rollout)]
        for request in rollouts:
            _misbehave(request.context.text)
        if rollouts and self._script.delay:
            time.sleep(self._script.delay)
        return [_Unfinished(r) if self._is_unfinished(r) else self._reply(r) for r in requests]

    def _is_unfinished(self, request: Any) -> bool:
        if not isinstance(request, Rollout):
            return False
        if after := _AFTER.search(request.context.text):
            return self._script.lines() < int(after[1])
        if "!slow" not in request.context.text:
            return False
        # A request stays the same object while it goes back to the queue.
        self._batches[id(request)] += 1
        if self._batches[id(request)] < SLOW:
            return True
        del self._batches[id(request)]
        return False

    def _reply(self, request: Any) -> Reply[Any]:
        match request:
            case Render(prompt=prompt):
                if "!long" in prompt.text:
                    raise ContextError(f"prompt {prompt.id} does not fit the scripted context")
                ids = tuple(map(ord, prompt.text))
                return Reply(Context(prompt.text, ids, (ids, ()), (ids, ()), prompt.id))
            case Decode() | Likeliest():
                return _lm_reply(request)
            case Rollout():
                return self._rollout(request)
            case Score(context=context, tokens=tokens):
                reward = self._script.reward(context.text, _text(tokens))
                return Reply(Judged(reward), Cost(rm_forward=1, paper_calls=request.paper_calls))
            case Sweep(context=context, response=response):
                text = _text(response.tokens)
                changes = self._script.propose(context.text, text)
                judged = Judged(self._script.reward(context.text, text))
                cost = Cost(lm_forward=1, lm_backward=1, rm_forward=1, rm_backward=1, paper_calls=4)
                return Reply(Swept(judged, (text, changes)), cost)
            case Propose() | Nudge():
                return Reply(_suggested(request))
        raise TypeError(f"not a request: {request!r}")

    def _rollout(self, request: Rollout) -> Reply[Response]:
        prompt = request.context.text
        if self._script.log is not None:
            with open(self._script.log, "a", encoding="utf-8") as log:
                log.write(f"{prompt}\n")
        prefix = _text(request.prefix)
        text = self._script.respond(prompt, prefix, request.key)
        tokens = (*map(ord, text), STOP)[: request.max_tokens]
        if request.until is not None and request.until in text[len(prefix) :]:
            tokens = tokens[: text.index(request.until, len(prefix)) + 1]
        new = len(tokens) - len(request.prefix)
        cost = Cost(
            rollouts=1,
            generated_tokens=new,
            lm_forward=new,
            flops=new * self._script.flops,
            paper_calls=new,
        )
        return Reply(Response(tokens, "stop" if tokens[-1] == STOP else "length"), cost)


class _Unfinished(Exception):
    """Takes the place of the result of a rollout that goes on in the next batch."""

    def __init__(self, request: Rollout) -> None:
        super().__init__()
        self.request = request


def _suggested(request: Propose | Nudge) -> list[Proposal] | Nudges:
    text, changes = request.gradients
    if isinstance(request, Nudge):
        return _nudges(request, changes)
    return _next(request, text, changes)


def _next(request: Propose, text: str, changes: Sequence[tuple[int, str, float]]) -> list[Proposal]:
    untried = (
        Proposal(
            position=position,
            from_token=ord(text[position]),
            to_token=ord(character),
            confidence=0.5,
            grad_norm=1.0,
            advantage=advantage,
        )
        for position, character, advantage in changes
        if position >= request.boundary and (position, ord(character)) not in request.tried
    )
    # The range ends the generator after `count` proposals.
    return [proposal for proposal, _ in zip(untried, range(request.count), strict=False)]


def _nudges(request: Nudge, changes: Sequence[tuple[int, str, float]]) -> Nudges:
    """Every position with a proposal is uncertain."""
    positions = tuple(sorted({position for position, _, _ in changes}))
    here = [(ord(c), gain) for position, c, gain in changes if position == request.position]
    return Nudges(positions, tuple(t for t, _ in here), tuple(gain for _, gain in here))


def _lm_reply(request: Decode | Likeliest) -> Reply[Any]:
    if isinstance(request, Decode):
        return Reply([_text(tokens) for tokens in request.sequences])
    choices = [_choices(token, request.count) for token in request.response.tokens]
    return Reply(choices, Cost(lm_forward=1, paper_calls=1))


def _choices(token: int, count: int) -> Choices:
    """The token itself with probability .5, then digits with .05 each."""
    others = [ord(c) for c in "0123456789" if ord(c) != token][: count - 1]
    return Choices(0.5, (token, *others), (log(0.5), *(log(0.05) for _ in others)))


def _text(tokens: Sequence[int]) -> str:
    return "".join(map(chr, (t for t in tokens if t != STOP)))


def _misbehave(prompt: str) -> None:
    if "!kill" in prompt:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
    if "!hang" in prompt:
        signal.pause()
    if "!lost" in prompt:
        import torch  # noqa: PLC0415 - slow to import, and only this word needs it

        raise torch.AcceleratorError("the accelerator is lost")
    if "!raise" in prompt:
        raise ValueError(f"the script raises on {prompt!r}")
