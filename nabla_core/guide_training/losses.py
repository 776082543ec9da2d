"""Losses of guide training; see `settings.Target`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nabla_core.guide_training.examples import Batch
from nabla_core.guide_training.settings import Target


def loss(
    values: Tensor,
    rewards: Tensor | None,
    batch: Batch,
    target: Target,
    *,
    responses: int,
    positions: int,
) -> Tensor:
    """The loss of a batch, a scalar.

    values `[N, K]` are what the guide says each token is worth, rewards `[R]` its own rewards
    or None. Sums are divided by `responses` and `positions`, the counts of the whole step, so
    that the losses of its parts add up to that of the whole.
    """
    values = values.float()
    said = _gains(values, batch)
    true = _gains(batch.scores, batch)
    total = values.new_zeros(())
    if target.within:
        wanted = _masked(batch.scores / target.temperature, batch.tried).softmax(-1)
        given = _masked(values / target.temperature, batch.tried).log_softmax(-1)
        entropy = -(wanted * given.masked_fill(~batch.tried, 0.0)).sum(-1)
        total = total + target.within * entropy.sum() / positions
    if target.mirror:
        wanted = _masked(batch.prior + batch.scores / target.temperature, batch.tried).softmax(-1)
        given = _masked(batch.prior + values, batch.tried).log_softmax(-1)
        entropy = -(wanted * given.masked_fill(~batch.tried, 0.0)).sum(-1)
        total = total + target.mirror * entropy.sum() / positions
    if target.across:
        total = total + target.across * _across(said, true, batch, target).sum() / responses
    if target.scale:
        others = batch.tried.clone()
        others[:, 0] = False
        off = functional.huber_loss(said, true, reduction="none", delta=target.huber_delta)
        mean = off.masked_fill(~others, 0.0).sum(-1) / others.sum(-1)
        total = total + target.scale * mean.sum() / positions
    if target.score and rewards is not None:
        total = total + target.score * (rewards.float() - batch.score).square().sum() / responses
    return total


def _across(said: Tensor, true: Tensor, batch: Batch, target: Target) -> Tensor:
    """Cross-entropy over all pairs of each response, `[R]`. The tokens taken are pairs without
    gain, so that leaving the response as it is competes with the rest."""
    counts = torch.bincount(batch.row, minlength=len(batch.ids))
    starts = counts.cumsum(0) - counts
    order = torch.arange(len(batch.row), device=said.device) - starts[batch.row]
    shape = (len(batch.ids), int(counts.max()), said.size(1))
    place = (batch.row, order)

    def spread(x: Tensor, fill: float) -> Tensor:
        return x.new_full(shape, fill).index_put(place, x).flatten(1)

    tried = spread(batch.tried.float(), 0.0) > 0
    tried = tried | ~tried.any(-1, keepdim=True)
    wanted = _masked(spread(true, 0.0) / target.temperature, tried).softmax(-1)
    given = _masked(spread(said, 0.0) / target.temperature, tried).log_softmax(-1)
    return -(wanted * given.masked_fill(~tried, 0.0)).sum(-1)


def _gains(values: Tensor, batch: Batch) -> Tensor:
    return (values - values[:, :1]).masked_fill(~batch.tried, 0.0)


def _masked(values: Tensor, tried: Tensor) -> Tensor:
    return values.masked_fill(~tried, float("-inf"))
