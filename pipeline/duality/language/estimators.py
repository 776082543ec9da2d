"""What can be said of laws that nobody can enumerate, from samples, and when to say nothing.

Tensors are float64. A sample of an arm is `[P, S]`: S responses to each of P prompts;
numbers are means over prompts, and their standard errors count both what responses vary
within prompts and that is all: the prompts are what the statement is about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_ESS, LARGEST_WEIGHT = 300.0, 0.02
BINS = 10


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    error: float

    @property
    def half(self) -> float:
        """Half the width of a 95 % interval."""
        return 1.96 * self.error

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.half:.3f}"


def mean_over_prompts(values: Tensor) -> Estimate:
    """The mean of `[P, S]` and its standard error for these prompts."""
    p, s = values.shape
    within = values.var(1) / s if s > 1 else torch.zeros(p, dtype=values.dtype)
    return Estimate(float(values.mean()), float(within.sum().sqrt()) / p)


@dataclass(frozen=True, eq=False)
class Optimum:
    """pi*_beta of P prompts by importance sampling: per prompt `[P]` the effective sample
    size, the largest weight, E*[r], its variance, and log Z."""

    beta: float
    ess: Tensor
    largest: Tensor
    reward: Tensor
    variance: Tensor
    log_z: Tensor

    @property
    def estimable(self) -> Tensor:
        """bool `[P]`: where the numbers may be used at all."""
        return (self.ess >= LEAST_ESS) & (self.largest <= LARGEST_WEIGHT)

    @property
    def kl(self) -> Tensor:
        """KL(pi* || p_ref) `[P]` = E*[r] / beta - log Z."""
        return self.reward / self.beta - self.log_z

    def point(self) -> tuple[Estimate, Estimate]:
        """(KL, E[r]) over all prompts; ValueError unless all are estimable."""
        if not self.estimable.all():
            raise ValueError(
                f"not estimable at beta {self.beta:g}: ESS {float(self.ess.min()):.0f}"
            )
        p = len(self.ess)
        error = float(self.variance.sum().sqrt()) / p
        return (
            Estimate(float(self.kl.mean()), error / self.beta),
            Estimate(float(self.reward.mean()), error),
        )


def optimum(reward: Tensor, beta: float) -> Optimum:
    """Self-normalised importance sampling of pi*_beta from reference samples `[P, M]`.

    Raises ValueError where beta is not positive or a reward is not finite.
    """
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta}")
    if not reward.isfinite().all():
        raise ValueError("a reward is not finite")
    log_w = reward / beta
    log_z = torch.logsumexp(log_w, 1) - math.log(reward.size(1))
    weights = torch.softmax(log_w, 1)
    mean = (weights * reward).sum(1)
    # Delta method for a ratio of means.
    variance = (weights**2 * (reward - mean[:, None]) ** 2).sum(1)
    ess = 1 / (weights**2).sum(1)
    return Optimum(beta, ess, weights.amax(1), mean, variance, log_z)


@dataclass(frozen=True)
class Bounds:
    """KL of a sampler without a density to the reference, between two numbers (nats), each
    widened by 1.96 of its standard error."""

    low: float
    high: float


def kl_bounds(
    rewards: Tensor, log_ref: Tensor, reference_rewards: Tensor, optima: list[Optimum]
) -> Bounds:
    """max(sup_beta (E_q r - J*_beta) / beta, reward-marginal KL) <= KL <= -E_q log p_ref.

    rewards and log_ref `[P, S]` of the sampler's responses, reference_rewards `[P, M]`; the
    optima those estimable on every prompt.
    """
    mean = mean_over_prompts(rewards)
    least = mean.value - mean.half
    variational = [least / o.beta - float(o.log_z.mean()) for o in optima]
    marginal = marginal_kl(rewards, reference_rewards)
    low = max([0.0, marginal.value - marginal.half, *variational])
    surprise = mean_over_prompts(-log_ref)
    return Bounds(low, surprise.value + surprise.half)


def marginal_kl(rewards: Tensor, reference_rewards: Tensor) -> Estimate:
    """KL of the binned rewards' laws, a lower bound of the KL of responses; bins are the
    reference's deciles prompt by prompt. The plug-in's bias (Miller and Madow) is taken off."""
    found = []
    for mine, theirs in zip(rewards, reference_rewards, strict=True):
        levels = torch.linspace(0, 1, BINS + 1, dtype=theirs.dtype)[1:-1]
        edges = theirs.quantile(levels).unique()
        found.append(_plug_in(torch.bucketize(mine, edges), torch.bucketize(theirs, edges)))
    values = torch.tensor(found, dtype=torch.float64)
    spread = float(values.std()) / math.sqrt(len(found)) if len(found) > 1 else 0.0
    return Estimate(float(values.mean()), spread)


def answer_kl(answers: Tensor, reference_answers: Tensor) -> Estimate:
    """Empirical KL of answer laws, prompt by prompt: small whole numbers `[P, S]`, `[P, M]`."""
    values = torch.tensor(
        [_plug_in(a, b) for a, b in zip(answers, reference_answers, strict=True)],
        dtype=torch.float64,
    )
    spread = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(float(values.mean()), spread)


def _plug_in(mine: Tensor, theirs: Tensor) -> float:
    """KL of two empirical laws of classes, half a count added to the reference's."""
    size = int(max(mine.max(), theirs.max())) + 1
    seen = torch.bincount(mine, minlength=size).double()
    q = seen / seen.sum()
    p = torch.bincount(theirs, minlength=size).double() + 0.5
    p = p / p.sum()
    here = q > 0
    plain = float((q[here] * (q[here] / p[here]).log()).sum())
    return plain - (int(here.sum()) - 1) / (2 * len(mine))


def best_of(values: Tensor, rewards: Tensor, n: int) -> Tensor:
    """E[value] `[P]` of the best of n, from reference samples `[P, M]`: the i-th smallest of
    M rewards is the best of n draws with probability (i / M)^n - ((i - 1) / M)^n."""
    m = rewards.size(1)
    steps = (torch.arange(m + 1, dtype=torch.float64) / m) ** n
    order = rewards.argsort(dim=1, stable=True)
    return (values.gather(1, order) * steps.diff()).sum(1)
