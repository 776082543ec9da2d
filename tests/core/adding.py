"""Engines that only add and negate, and flows that use them: no model, every batch on record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nabla_core.engines.base import BatchEngine, Engines
from nabla_core.requests import Flow, Reply, Request, Result, ask
from nabla_core.scheduler import drive
from nabla_core.types import Cost, Trace


@dataclass(frozen=True)
class Double(Request[int]):
    number: int


@dataclass(frozen=True)
class Negate(Request[int]):
    number: int


@dataclass(frozen=True)
class Unheard(Request[int]):
    number: int


class Recording(BatchEngine):
    """Answers numbers; records every batch it was asked for. `bad` numbers fail."""

    def __init__(self, capacity: int = 4, bad: dict[int, str] | None = None) -> None:
        super().__init__(capacity)
        self.bad = bad or {}
        self.batches: list[list[int]] = []

    def answer(self, requests: Sequence[Any]) -> Sequence[Result]:
        self.batches.append([r.number for r in requests])
        for request in requests:
            if self.bad.get(request.number) == "whole batch":
                raise ValueError(f"cannot take {request.number}")
        return [
            ValueError(f"cannot answer {r.number}")
            if self.bad.get(r.number) == "itself"
            else Reply(self.value(r.number), Cost(rm_forward=1, token_passes=r.number))
            for r in requests
        ]

    def value(self, number: int) -> int:
        raise NotImplementedError


class Doubling(Recording):
    kinds = (Double,)

    def value(self, number: int) -> int:
        return 2 * number


class Negating(Recording):
    kinds = (Negate,)

    def value(self, number: int) -> int:
        return -number


def trace(name: object, *numbers: int) -> Trace:
    return Trace(
        prompt_id=str(name),
        sample=0,
        prompt_text="",
        text="",
        tokens=numbers,
        finish_reason="stop",
        base_text="",
        base_tokens=(),
        base_reward=None,
        reward=None,
        revisions=(),
        seed=0,
    )


def doubled(number: int) -> Flow:
    answer = yield from ask(Double(number))
    return trace(number, answer)


def results(flows: list[Flow], *engines: Recording, **settings: Any) -> dict[str, Trace]:
    return {t.prompt_id: t for t in drive(flows, Engines(*engines), **settings)}
