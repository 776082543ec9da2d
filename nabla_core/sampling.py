"""Choosing a token from logits: min-p, temperature, top-k, top-p, inverse CDF."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nabla_core.config import Sampling
from nabla_core.errors import NonFiniteError
from nabla_core.large_vocabulary import (
    LARGE,
    OPEN,
    blocks_of,
    draw_open,
    first_argmax,
    inverse_cdf,
    nucleus_threshold,
)

# Elements of a float64 distribution that are formed at a time: 1 MiB stays in a CPU's cache.
BLOCK = 1 << 17


def draw(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> Tensor:
    """One token a row.

    logits `[B, V]`, uniforms float64 `[B]` in [0, 1); returns int64 `[B]`.

    The cumulative sum runs in id order, not in order of probability: two tokens whose logits
    differ by less than the noise of batching would swap places in a sorted order, and change
    every draw between them.

    Raises NonFiniteError where a row is no distribution.
    """
    uniforms = uniforms.to(logits.device, torch.float64)
    if logits.size(-1) < LARGE:
        check_distributions(logits)
        if sampling.temperature == 0:
            return logits.argmax(-1)
        return _draw_in_full(logits, sampling, uniforms)
    blocks = blocks_of(logits)
    largest = blocks.amax(-1)
    check_distributions(largest)
    if sampling.temperature == 0:
        return first_argmax(blocks, largest)
    chosen = draw_open(blocks, largest, sampling, uniforms)
    rows = (chosen == OPEN).nonzero().squeeze(-1)
    for part in rows.split(max(1, BLOCK // logits.size(-1))) if len(rows) else ():
        chosen[part] = _draw_in_full(logits[part], sampling, uniforms[part])
    return chosen


def _draw_in_full(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> Tensor:
    """`draw` by the float64 distribution over the whole vocabulary."""
    # The first id whose cumulative sum exceeds the target; a filtered id adds nothing to the sum.
    return inverse_cdf(filtered_probabilities(logits, sampling), uniforms)


def without_unlikely(logits: Tensor, min_p: float) -> Tensor:
    """The logits `[..., V]` of the LM, minus infinity where a token's probability is below `min_p`
    (above 0) of the largest one."""
    least = logits.amax(-1, keepdim=True) + math.log(min_p)
    return logits.masked_fill(logits < least, float("-inf"))


def check_distributions(logits: Tensor) -> None:
    """Raises NonFiniteError where a row of logits `[..., V]` is no distribution: a logit is NaN or
    plus infinity, or all are minus infinity (that of an id that may not be drawn)."""
    # The argmax of such a row would be an id all the same, 0 in most cases.
    if not logits.amax(-1).isfinite().all():
        raise NonFiniteError("logits that a token is drawn from are not finite")


def filtered_probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """softmax(logits / temperature) restricted to top-k, then top-p. float64 `[B, V]`.

    Rows do not sum to 1 after filtering. Top-p keeps the smallest set of most probable
    tokens whose mass reaches p, at least one.
    """
    # float64: in float32 a cumulative sum over 150,000 tokens loses the tail of the distribution.
    probabilities = torch.softmax(logits.double() / sampling.temperature, -1)
    if sampling.top_k and sampling.top_k < logits.size(-1):
        kth = probabilities.topk(sampling.top_k, -1).values[:, -1:]
        probabilities = probabilities.masked_fill(probabilities < kth, 0.0)
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    if sampling.top_p < 1:
        threshold = nucleus_threshold(probabilities, sampling.top_p)
        # Several times as fast on a CPU as a mask that is filled.
        probabilities = probabilities * (probabilities >= threshold)
    return probabilities
