"""Requests of rollouts for the tiny models, and the results of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nabla_core.config import Sampling
from nabla_core.draws import DrawKey
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.models.loading import LanguageModel, load_language_model
from nabla_core.requests import Context, Response, Rollout
from tests.core.tiny import Family

GREEDY = Sampling(0)
PROMPTS = ["1+1", "7", "9*9-3*3-2*2+1", "0-0-0-0", "5", "3*7+2", "8+8+8", "2*3*4*5*6*7"]
CPU: dict[str, Any] = {"revision": None, "device": torch.device("cpu"), "dtype": torch.float32}


def language_model(family: Family) -> LanguageModel:
    return load_language_model(str(family.lm), **CPU)


def context(ids: Sequence[int]) -> Context:
    return Context("", tuple(ids), ((), ()), ((), ()))


def rollout(
    ids: Sequence[int], prefix: Sequence[int] = (), limit: int = 12, **more: Any
) -> Rollout:
    key = DrawKey(0, str(tuple(ids)), 0, "rollout 0")
    settings: dict[str, Any] = {"sampling": GREEDY, "key": key, **more}
    return Rollout(context(ids), tuple(prefix), limit, **settings)


def answers(engine: RolloutEngine, requests: Sequence[Rollout]) -> list[Any]:
    """Results in the order of the requests; what failed is an exception."""
    for ticket, request in enumerate(requests):
        engine.submit(ticket, request)
    results: dict[int, Any] = {}
    for _ in range(1000):
        for ticket, result in engine.step():
            assert ticket not in results
            results[ticket] = result
        if not engine.waiting:
            break
    assert sorted(results) == list(range(len(requests)))
    return [results[n] for n in range(len(requests))]


def responses(engine: RolloutEngine, requests: Sequence[Rollout]) -> list[Response]:
    return [reply.value for reply in answers(engine, requests)]


def generated(model: Any, ids: list[int], limit: int) -> tuple[int, ...]:
    """What transformers generates greedily, one prompt at a time."""
    output = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
        do_sample=False,
        max_new_tokens=limit,
    )
    return tuple(output[0, len(ids) :].tolist())
