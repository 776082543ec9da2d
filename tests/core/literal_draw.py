"""The law of a draw, word for word: float64 over the whole vocabulary, all of it sorted."""

from __future__ import annotations

import torch
from torch import Tensor

from nabla_core.config import Sampling


def literal_probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """softmax(logits / temperature) restricted to top-k, then top-p. float64 `[B, V]`."""
    probabilities = torch.softmax(logits.double() / sampling.temperature, -1)
    if sampling.top_k and sampling.top_k < logits.size(-1):
        kth = probabilities.sort(-1, descending=True).values[:, sampling.top_k - 1, None]
        probabilities = probabilities.masked_fill(probabilities < kth, 0.0)
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    if sampling.top_p < 1:
        ordered = probabilities.sort(-1, descending=True).values
        before = ordered.cumsum(-1) - ordered
        kept = (before < sampling.top_p).sum(-1, keepdim=True)
        threshold = ordered.gather(-1, kept - 1)
        probabilities = probabilities.masked_fill(probabilities < threshold, 0.0)
    return probabilities


def literal_draw(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> Tensor:
    """The first id whose cumulative sum in id order exceeds the uniform's share; int64 `[B]`."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = literal_probabilities(logits, sampling)
    cumulative = probabilities.cumsum(-1)
    chosen = (cumulative <= uniforms[:, None] * cumulative[:, -1:]).sum(-1)
    last = probabilities.size(-1) - 1 - (probabilities.flip(-1) > 0).to(torch.int8).argmax(-1)
    return torch.minimum(chosen, last)


def undecided(logits: Tensor, sampling: Sampling, uniforms: Tensor, error: float) -> Tensor:
    """bool `[B]`: where the literal draw changes if the uniform or top-p move by `error`."""
    draws = [
        literal_draw(
            logits,
            Sampling(
                sampling.temperature,
                sampling.top_p if sampling.top_p == 1 else min(1.0, sampling.top_p + p),
                sampling.top_k,
            ),
            (uniforms + u).clamp(0, 1 - 2**-53),
        )
        for p in (-error, 0.0, error)
        for u in (-error, 0.0, error)
    ]
    return torch.stack(draws).ne(draws[0]).any(0)
