"""Choosing a token from logits: temperature, top-k, top-p, inverse CDF."""

from __future__ import annotations

import torch
from torch import Tensor

from nabla_core.config import Sampling
from nabla_core.errors import NonFiniteError


def draw(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> Tensor:
    """One token a row.

    logits `[B, V]`, uniforms float64 `[B]` in [0, 1); returns int64 `[B]`.

    The cumulative sum runs in id order, not in order of probability: two tokens whose logits
    differ by less than the noise of batching would swap places in a sorted order, and change
    every draw between them.

    Raises NonFiniteError where a row is no distribution.
    """
    check_distributions(logits)
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = filtered_probabilities(logits, sampling)
    cumulative = probabilities.cumsum(-1)
    target = uniforms.to(cumulative)[:, None] * cumulative[:, -1:]
    # The first id whose cumulative sum exceeds the target; a filtered id adds nothing to the
    # sum and is never first, except when rounding puts the target at the very end.
    chosen = (cumulative <= target).sum(-1)
    last = probabilities.size(-1) - 1 - (probabilities.flip(-1) > 0).to(torch.int8).argmax(-1)
    return torch.minimum(chosen, last)


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
        ordered = probabilities.sort(-1, descending=True).values
        before = ordered.cumsum(-1) - ordered
        kept = (before < sampling.top_p).sum(-1, keepdim=True)
        threshold = ordered.gather(-1, kept - 1)
        probabilities = probabilities.masked_fill(probabilities < threshold, 0.0)
    return probabilities
