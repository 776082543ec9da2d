"""Batched forward and backward passes through a model's body.

Sequences are right-padded: under a causal mask no token sees the padding behind it. Histories
from a cache are left-padded in front; an attention mask and position ids leave that padding out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as checkpoint_layer
from transformers import DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer

from nabla_core.models.attention import grouped_attention
from nabla_core.models.kv_cache import PrefixCache, cut, from_cache, left_mask, stack, to_cache


class Embedded(Protocol):
    """A model that is read from input embeddings, a `LanguageModel` or a `RewardModel`."""

    @property
    def body(self) -> Any: ...

    @property
    def device(self) -> torch.device: ...

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings `[..., D]` of ids `[...]`."""


@dataclass(eq=False)
class Reading:
    """One sequence to read: all its `tokens`, of which `cache` holds the first ones.

    At least the last token is fed to the model, so a cache of all of them is shortened by one.
    """

    tokens: tuple[int, ...]
    cache: PrefixCache | None = None

    def __post_init__(self) -> None:
        if self.cache is not None:
            shared = self.cache.shared(self.tokens[:-1])
            self.cache = shared if shared.length else None

    @property
    def cached(self) -> int:
        return self.cache.length if self.cache else 0

    @property
    def fed(self) -> int:
        return len(self.tokens) - self.cached


@dataclass(eq=False)
class Pass:
    """The result of a forward pass.

    `embeddings` and `hidden` `[B, S, D]` start at each reading's first fed token; rows shorter
    than S are padded on the right. With gradients `embeddings` is a leaf of the graph. `history`
    is the number of columns in front that come from prefix caches.
    """

    readings: Sequence[Reading]
    embeddings: Tensor
    hidden: Tensor
    cache: DynamicCache | None
    history: int

    def prefix_cache(self, row: int, tokens: int) -> PrefixCache:
        """Keys and values of the first `tokens` tokens of one reading, copied."""
        assert self.cache is not None, "this pass was run without return_cache"
        reading = self.readings[row]
        end = self.history + tokens - reading.cached
        return cut(from_cache(self.cache), row, end, reading.tokens[:tokens])


def read(
    model: Embedded,
    readings: Sequence[Reading],
    *,
    gradient: bool,
    return_cache: bool,
    checkpoint: bool = False,
) -> Pass:
    """Run a batch through a model's body, from the input embeddings of its ids.

    `gradient`: keep the graph from `embeddings` to `hidden`; call it in grad mode.
    `return_cache`: keep keys and values too (as is always done behind a history).
    `checkpoint`: the graph holds only the inputs of layers, which run again in the backward pass;
    neither a history nor `return_cache` is possible then.
    """
    body, device = model.body, model.device
    width = max(r.fed for r in readings)
    ids = torch.tensor([[*r.tokens[r.cached :], *[0] * (width - r.fed)] for r in readings])
    # Detached from the table: gradients are with respect to inputs, never to weights.
    embeddings = model.embed(ids.to(device)).detach().requires_grad_(gradient)
    arguments: dict[str, Any] = {}
    history = 0
    if any(r.cache for r in readings):
        # A row without a history gets an empty cache, so that all rows are stacked alike.
        empty = next(r.cache for r in readings if r.cache).shared(())
        kv, cached = stack([r.cache or empty for r in readings])
        history = kv[0].size(2)
        right = torch.ones(len(readings), width, dtype=torch.int64, device=device)
        arguments["attention_mask"] = torch.cat([left_mask(cached, history), right], 1)
        # Positions go on behind each row's own history, not behind the padded width. Those of the
        # padding stay within the row: a model may have no larger ones, or change with the largest.
        positions = cached[:, None] + torch.arange(width, device=device)
        last = torch.tensor([len(r.tokens) - 1 for r in readings], device=device)
        arguments["position_ids"] = torch.minimum(positions, last[:, None])
        arguments["past_key_values"] = to_cache(kv)
    elif return_cache:
        arguments["past_key_values"] = DynamicCache()
    with _checkpointed(body) if gradient and checkpoint else nullcontext(), grouped_attention():
        output = body(
            inputs_embeds=embeddings, use_cache="past_key_values" in arguments, **arguments
        )
    cache = arguments.get("past_key_values")
    return Pass(readings, embeddings, output.last_hidden_state, cache, history)


@contextmanager
def _checkpointed(body: Any) -> Iterator[None]:
    """Keep only the inputs of a body's layers; they run again in the backward pass."""
    # Not by the switch of transformers, which asks for layers in training mode: the layers of some
    # models (OPT, Bloom, Falcon ...) then drop out, here and not where they run again.
    layers = checkpointable(body)
    forwards = [vars(layer).get("forward") for layer in layers]
    try:
        for layer in layers:
            # Nothing is random in evaluation mode: no random state needs to be kept.
            layer.forward = partial(
                checkpoint_layer, layer.forward, use_reentrant=False, preserve_rng_state=False
            )
        yield
    finally:
        for layer, forward in zip(layers, forwards, strict=True):
            if forward is None:
                del layer.forward  # that of the class again
            else:
                layer.forward = forward


def checkpointable(body: Any) -> list[Any]:
    """The layers of a body that can be run again in the backward pass."""
    return [m for m in body.modules() if isinstance(m, GradientCheckpointingLayer)]


@dataclass(eq=False)
class Likelihood:
    """The LM's distributions at N positions, and the tokens that followed.

    `log_probability` of the token, `confidence` (top probability), `entropy` (nats) and `top`
    (argmax), each `[N]`. `hidden_gradient` `[N, D]` is the gradient of the summed
    log-probability with respect to the hidden states, or None.
    """

    log_probability: Tensor
    confidence: Tensor
    entropy: Tensor
    top: Tensor
    hidden_gradient: Tensor | None

    def part(self, positions: slice) -> Likelihood:
        """The likelihood of some of the positions, without the gradient."""
        return Likelihood(
            self.log_probability[positions],
            self.confidence[positions],
            self.entropy[positions],
            self.top[positions],
            None,
        )


# Elements of a [rows, V] block formed at a time: 16 MiB in fp32. DTO holds about a dozen.
BLOCK = 1 << 22


@torch.no_grad()
def likelihood(lm: Any, hidden: Tensor, tokens: Tensor, *, gradient: bool) -> Likelihood:
    """Score `tokens` int64 `[N]` given the hidden states `[N, D]` that predicted them.

    Logits are formed a block of rows at a time, never for a whole response. The gradient of
    log softmax(z)[y] with respect to the hidden state needs no graph: W[y] - softmax(z) @ W, each
    logit times the slope of the map from the output layer to it.
    """
    rows = max(1, BLOCK // lm.head.out_features)
    parts: list[tuple[Tensor, ...]] = []
    for states, targets in zip(hidden.split(rows), tokens.split(rows), strict=True):
        logits = lm.logits(states)
        log_p = logits.log_softmax(-1)
        p = log_p.exp()
        confidence, top = p.max(-1)
        chosen = log_p.gather(-1, targets[:, None]).squeeze(-1)
        block = [chosen, confidence, torch.special.entr(p).sum(-1), top]
        if gradient:
            block.append(_hidden_gradient(lm, logits, p, targets))
        parts.append(tuple(block))
    joined = [torch.cat(part) for part in zip(*parts, strict=True)]
    return Likelihood(joined[0], joined[1], joined[2], joined[3], joined[4] if gradient else None)


def _hidden_gradient(lm: Any, logits: Tensor, p: Tensor, targets: Tensor) -> Tensor:
    weight = lm.head.weight
    slope = lm.logit_map.slope(logits)
    if isinstance(slope, float):
        # In the weight's dtype: no fp32 copy of the head is made.
        return slope * (weight[targets] - p.to(weight.dtype) @ weight).float()
    own = slope.gather(-1, targets[:, None]).to(weight.dtype)
    return (own * weight[targets] - (p * slope).to(weight.dtype) @ weight).float()
