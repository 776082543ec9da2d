"""The loss terms of guide training. `settings.Target` defines and weights them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nabla_core.guide_training.examples import Batch
from nabla_core.guide_training.settings import Target


def loss(
    predictions: Tensor,
    rewards: Tensor | None,
    batch: Batch,
    target: Target,
    *,
    responses: int,
    positions: int,
) -> Tensor:
    """The loss of a batch, a scalar.

    `predictions` `[N, K]` are the guide's values of the candidates, up to a constant of each
    position; `rewards` `[R]` are its own rewards, None for a head. `responses` and `positions`
    are the counts of the whole optimiser step: sums are divided by them and not by the batch's
    own counts, so that the losses of the micro-batches of all workers add up to the loss of the
    step.
    """
    # Softmaxes and sums over many terms lose too much in bfloat16.
    predictions = predictions.float()
    predicted, true = _advantages(predictions, batch), _advantages(batch.scores, batch)
    total = predictions.new_zeros(())
    if target.within:
        # A softmax ignores constants, so values and advantages give the same distribution here.
        entropy = _cross_entropy(
            batch.scores / target.temperature, predictions / target.temperature, batch.mask
        )
        total = total + target.within * entropy.sum() / positions
    if target.mirror:
        # Of all distributions q over the candidates, E_q[S] - temperature KL(q || p) is largest
        # for q proportional to p exp(S / temperature). The search's mirror step at beta 1 forms
        # p exp(P): the two agree where P is S / temperature up to a constant.
        log_p = batch.log_probabilities
        entropy = _cross_entropy(
            log_p + batch.scores / target.temperature, log_p + predictions, batch.mask
        )
        total = total + target.mirror * entropy.sum() / positions
    if target.across:
        entropy = _across(predicted, true, batch, target.temperature)
        total = total + target.across * entropy.sum() / responses
    if target.scale:
        alternatives = batch.mask.clone()
        alternatives[:, 0] = False
        # Huber: a few alternatives lose the whole response, and squares would learn only those.
        error = functional.huber_loss(predicted, true, reduction="none", delta=target.huber_delta)
        mean = error.masked_fill(~alternatives, 0.0).sum(-1) / alternatives.sum(-1)
        total = total + target.scale * mean.sum() / positions
    if target.score and rewards is not None:
        total = total + target.score * (rewards.float() - batch.score).square().sum() / responses
    return total


def _across(predicted: Tensor, true: Tensor, batch: Batch, temperature: float) -> Tensor:
    """Cross-entropy over all pairs (position, candidate) of each response, `[R]`.

    The tokens of the response take part with advantage 0, so that leaving the response as it is
    competes with every change to it.
    """
    counts = torch.bincount(batch.row, minlength=len(batch.ids))
    starts = counts.cumsum(0) - counts
    # The number of each position within its response: positions are sorted by response.
    order = torch.arange(len(batch.row), device=predicted.device) - starts[batch.row]
    shape = (len(batch.ids), int(counts.max()), predicted.size(1))

    def by_response(values: Tensor) -> Tensor:
        """`[N, K]` -> `[R, positions of a response * K]`, padded with 0."""
        return values.new_zeros(shape).index_put((batch.row, order), values).flatten(1)

    mask = by_response(batch.mask)
    # A response without positions would be a softmax over nothing, which is nan; over zeros it
    # is a constant without gradient.
    mask = mask | ~mask.any(-1, keepdim=True)
    return _cross_entropy(
        by_response(true) / temperature, by_response(predicted) / temperature, mask
    )


def _cross_entropy(target: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of softmax(logits) relative to softmax(target) over the last dimension, where
    `mask` is True."""
    p = target.masked_fill(~mask, float("-inf")).softmax(-1)
    log_q = logits.masked_fill(~mask, float("-inf")).log_softmax(-1)
    # 0 * -inf is nan, in the sum and in its gradient.
    return -(p * log_q.masked_fill(~mask, 0.0)).sum(-1)


def _advantages(values: Tensor, batch: Batch) -> Tensor:
    """`[N, K]`: each candidate's value minus that of the response's own token; 0 in the padding."""
    return (values - values[:, :1]).masked_fill(~batch.mask, 0.0)
