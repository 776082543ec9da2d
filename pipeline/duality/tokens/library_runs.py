"""Runs of the library's own decoding loops on the enumerated models."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from nabla_core import Prompt, Runtime, drive
from nabla_core.engines.base import Engines
from nabla_core.engines.loading import build_engines, reader_for
from nabla_core.models.loading import language_model, reward_model
from nabla_core.requests import Flow
from nabla_core.types import Identity
from pipeline.duality.tokens.enumerable import (
    LETTERS,
    PROMPT,
    STATES,
    STOP,
    EnumeratedModels,
    T,
    number,
    tokenizer,
)

BATCH = 256


def engines_of(models: EnumeratedModels) -> Engines:
    """Engines for the enumerated LM and reward model."""
    tokens = tokenizer()
    # These LMs have no row for a stop token: the generation config names one that never comes.
    tokens.eos_token = None
    # Copies, so that the tabulated models stay as they are.
    model = copy.deepcopy(models.lm)
    model.generation_config.eos_token_id = STOP
    lm = language_model(model, tokens, Identity("enumerable lm", "1"))
    rm = reward_model(copy.deepcopy(models.rm), tokens, Identity("enumerable reward", "1"))
    reader = reader_for(rm, lm, 1.0)
    return build_engines(lm, reader, reader, Runtime(max_batch=BATCH))


def counts(models: EnumeratedModels, method: Callable[[Prompt], Flow], count: int) -> Tensor:
    """How many of `count` runs end at each response, `[S]`.

    Raises ValueError if a run does not generate T tokens.
    """
    prompts = (Prompt.of(LETTERS[PROMPT], id=f"draw {n}") for n in range(count))
    # Draws are keyed by the prompt's id, so prompts with the same text have independent draws.
    traces = drive((method(p) for p in prompts), engines_of(models), in_flight=3 * BATCH)
    responses = torch.tensor([trace.tokens for trace in traces])
    if responses.size(1) != T:
        raise ValueError(f"responses of {responses.size(1)} tokens; {T} are enumerated")
    return torch.bincount(number(responses), minlength=STATES).double()
