"""Rows of a rollout batch, and the reading of their histories."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import DynamicCache

from nabla_core.models.kv_cache import PrefixCache, from_cache, left_mask
from nabla_core.models.loading import LanguageModel
from nabla_core.requests import Rollout
from nabla_core.types import Cost


@dataclass(eq=False)
class Row:
    """A response that is being generated: `tokens` so far, at most `limit` in all. A row with an
    `error` ends with it.

    `prefix_length`: tokens of the request's prefix. `prefilled`: tokens read before the first new
    one.
    """

    ticket: int
    request: Rollout
    tokens: list[int]
    limit: int
    error: Exception | None = None
    prefix_length: int = 0
    prefilled: int = 0
    flops: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.prefix_length = len(self.tokens)

    @property
    def prompt(self) -> tuple[int, ...]:
        return self.request.context.lm

    @property
    def pending(self) -> int:
        """The token to feed next. Its keys and values are not in the cache yet."""
        return self.tokens[-1] if self.tokens else self.prompt[-1]

    @property
    def history(self) -> int:
        """The number of tokens before the pending one."""
        return len(self.prompt) + len(self.tokens) - 1

    @property
    def read(self) -> tuple[int, ...]:
        """The tokens before the pending one: what the cache must hold."""
        return (*self.prompt, *self.tokens)[:-1]

    @property
    def cost(self) -> Cost:
        """`lm_forward` counts the reading of the prompt; generated tokens have their own field."""
        generated = len(self.tokens) - self.prefix_length
        return Cost(
            rollouts=1,
            generated_tokens=generated,
            lm_forward=1 if self.prefilled else 0,
            token_passes=self.prefilled + generated,
            flops=self.flops,
            paper_calls=generated,
            seconds=self.seconds,
        )


def read_histories(lm: LanguageModel, sequences: list[tuple[int, ...]]) -> list[PrefixCache]:
    """Keys and values of whole sequences, read as one left-padded batch."""
    width = max(1, *(len(s) for s in sequences))
    # A one-token prompt has nothing before its pending token. One column of padding, masked like
    # any other, takes the place of its empty history.
    ids = torch.tensor([[0] * (width - len(s)) + list(s) for s in sequences])
    lengths = torch.tensor([len(s) for s in sequences])
    mask = left_mask(lengths, width)
    # Positions count from each row's first real token.
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    device = lm.device
    cache = DynamicCache()
    lm.body(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        position_ids=positions.to(device),
        past_key_values=cache,
        use_cache=True,
    )
    kv = from_cache(cache)
    return [
        PrefixCache([t[i : i + 1, :, width - len(s) :] for t in kv], s)
        for i, s in enumerate(sequences)
    ]
