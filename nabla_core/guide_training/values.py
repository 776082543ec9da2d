"""The value of a token, from the scores of the tails that continue it: what a guide learns to
predict. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp, log

from nabla_core.guide_training.settings import Target
from nabla_core.methods.counterfactuals import Place


def soft_value(scores: Sequence[float], beta: float) -> float:
    """beta log E exp(S / beta) over the scores S of sampled tails, in their units.

    The policy that maximises E[S] - beta KL(. || p) draws a token in proportion to p exp(Q / beta),
    where Q is this value with tails from the LM p (Rafailov et al., arXiv 2404.12358). It is at
    least the mean, and at most the largest score. The logarithm of a mean over n tails is on
    average too small, by about the variance of the scores / (2 n beta).
    """
    largest = max(scores)
    # Exponents of at most 0: exp cannot overflow, and one of the terms is 1.
    total = sum(exp((score - largest) / beta) for score in scores)
    return largest + beta * log(total / len(scores))


def with_soft_values(place: Place, target: Target) -> Place:
    """The position with the soft value of each token's tails as its score."""
    values = tuple(soft_value(scores, target.beta) for scores in place.tail_scores)
    return replace(place, scores=values)
