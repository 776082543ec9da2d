"""The product's own loops on the enumerable models: what the exact laws are held against."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from nabla_core import Prompt, Runtime, drive
from nabla_core.engines.base import Engines
from nabla_core.engines.loading import build_engines, read_with
from nabla_core.models.loading import language_model, reward_model
from nabla_core.requests import Flow
from nabla_core.types import Identity
from pipeline.duality.tokens.enumerable import LETTERS, PROMPT, STATES, T, World, number, tokenizer

BATCH = 256


def engines_of(world: World) -> Engines:
    """Rollouts, sweeps and scores by the world's models."""
    names = tokenizer()
    lm = language_model(copy.deepcopy(world.lm), names, Identity("enumerable lm", "1"))
    rm = reward_model(copy.deepcopy(world.rm), names, Identity("enumerable reward", "1"))
    reader = read_with(rm, lm, 1.0)
    return build_engines(lm, reader, reader, Runtime(max_batch=BATCH))


def counts(world: World, method: Callable[[Prompt], Flow], count: int) -> Tensor:
    """How often each response comes out of `count` runs, `[S]`. Flows must generate T tokens."""
    prompts = (Prompt.of(LETTERS[PROMPT], id=f"draw {n}") for n in range(count))
    traces = drive((method(p) for p in prompts), engines_of(world), in_flight=3 * BATCH)
    found = torch.tensor([trace.tokens for trace in traces])
    if found.size(1) != T:
        raise ValueError(f"responses of {found.size(1)} tokens; {T} are enumerated")
    return torch.bincount(number(found), minlength=STATES).double()
