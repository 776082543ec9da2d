"""Estimates from samples for laws that cannot be enumerated, and when there is no estimate.

Tensors are float64. A sample of an arm is `[P, S]`: S responses to each of P prompts. Numbers
are means over prompts. Their standard errors count the variation of responses within prompts
only: each statement is about these prompts and not about a population of prompts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# An estimate by importance sampling is used only with this effective sample size at least, and
# with no weight above this one.
REQUIRED_ESS, MAX_WEIGHT = 300.0, 0.02
BINS = 10


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    error: float

    @property
    def half_width(self) -> float:
        """Half the width of a 95 % interval."""
        return 1.96 * self.error

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.half_width:.3f}"


def mean_over_prompts(values: Tensor) -> Estimate:
    """The mean of values `[P, S]` and its standard error for these prompts."""
    p, s = values.shape
    within = values.var(1) / s if s > 1 else torch.zeros(p, dtype=values.dtype)
    return Estimate(float(values.mean()), float(within.sum().sqrt()) / p)


@dataclass(frozen=True, eq=False, kw_only=True)
class OptimumEstimate:
    """pi*_beta of P prompts by importance sampling.

    For each prompt, `[P]`: the effective sample size, the largest weight, E*[r] and the
    variance of this estimate, and log Z.
    """

    beta: float
    ess: Tensor
    largest_weight: Tensor
    reward: Tensor
    variance: Tensor
    log_z: Tensor

    @property
    def estimable(self) -> Tensor:
        """bool `[P]`: the prompts whose estimates may be used."""
        return (self.ess >= REQUIRED_ESS) & (self.largest_weight <= MAX_WEIGHT)

    @property
    def kl(self) -> Tensor:
        """KL(pi* || p_ref) `[P]` = E*[r] / beta - log Z."""
        return self.reward / self.beta - self.log_z

    def point(self) -> tuple[Estimate, Estimate]:
        """(KL, E[r]), means over all prompts. Raises ValueError unless all are estimable."""
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


def estimate_optimum(reward: Tensor, beta: float) -> OptimumEstimate:
    """Self-normalised importance sampling of pi*_beta from rewards `[P, M]` of the reference's
    responses; the weights are proportional to exp(r / beta).

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
    # E*[r] is a ratio of two means; its variance by the delta method.
    variance = (weights**2 * (reward - mean[:, None]) ** 2).sum(1)
    ess = 1 / (weights**2).sum(1)
    return OptimumEstimate(
        beta=beta,
        ess=ess,
        largest_weight=weights.amax(1),
        reward=mean,
        variance=variance,
        log_z=log_z,
    )


@dataclass(frozen=True)
class Bounds:
    """An interval for the KL of a sampler without a density to the reference, in nats; both
    ends are widened by 1.96 standard errors."""

    low: float
    high: float


def kl_bounds(
    rewards: Tensor, log_ref: Tensor, reference_rewards: Tensor, optima: list[OptimumEstimate]
) -> Bounds:
    """max(sup_beta (E_q r - J*_beta) / beta, reward-marginal KL) <= KL <= -E_q log p_ref.

    rewards and log_ref `[P, S]` of the sampler's responses, reference_rewards `[P, M]`; optima
    that are estimable on every prompt.

    The first lower bound is J(q) <= J*_beta, solved for the KL. The second is the data-processing
    inequality: a function of the response cannot have a larger KL. The upper bound holds
    because the entropy of a law on a countable set is not negative.
    """
    mean = mean_over_prompts(rewards)
    low_mean = mean.value - mean.half_width
    variational = [low_mean / o.beta - float(o.log_z.mean()) for o in optima]
    marginal = marginal_kl(rewards, reference_rewards)
    low = max([0.0, marginal.value - marginal.half_width, *variational])
    cross_entropy = mean_over_prompts(-log_ref)
    return Bounds(low, cross_entropy.value + cross_entropy.half_width)


def marginal_kl(rewards: Tensor, reference_rewards: Tensor) -> Estimate:
    """KL of the laws of the binned rewards, a lower bound of the KL of responses.

    The bins of each prompt are the deciles of the reference's rewards. The bias of the plug-in
    estimate is subtracted (Miller and Madow).
    """
    values = []
    for sample, reference in zip(rewards, reference_rewards, strict=True):
        levels = torch.linspace(0, 1, BINS + 1, dtype=reference.dtype)[1:-1]
        edges = reference.quantile(levels).unique()
        values.append(
            _plug_in_kl(torch.bucketize(sample, edges), torch.bucketize(reference, edges))
        )
    return _mean_and_error(values)


def answer_kl(answers: Tensor, reference_answers: Tensor) -> Estimate:
    """Empirical KL of the laws of the answers, given as small integers `[P, S]`, `[P, M]`; mean
    over prompts."""
    pairs = zip(answers, reference_answers, strict=True)
    return _mean_and_error([_plug_in_kl(sample, reference) for sample, reference in pairs])


def _mean_and_error(per_prompt: list[float]) -> Estimate:
    values = torch.tensor(per_prompt, dtype=torch.float64)
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(float(values.mean()), error)


def _plug_in_kl(sample: Tensor, reference: Tensor) -> float:
    """KL between the empirical laws of two samples of classes (integers)."""
    size = int(max(sample.max(), reference.max())) + 1
    q = torch.bincount(sample, minlength=size).double()
    q = q / q.sum()
    # Half a count more: a class that the reference has not drawn would make the KL infinite.
    p = torch.bincount(reference, minlength=size).double() + 0.5
    p = p / p.sum()
    support = q > 0
    divergence = float((q[support] * (q[support] / p[support]).log()).sum())
    # Miller and Madow: the plug-in entropy of q is too low by (classes - 1) / (2 N).
    return divergence - (int(support.sum()) - 1) / (2 * len(sample))


def best_of(values: Tensor, rewards: Tensor, n: int) -> Tensor:
    """E[value] `[P]` of the best of n draws, from samples of the reference `[P, M]`.

    The i-th smallest of M rewards is the best of n draws (with replacement) with probability
    (i / M)^n - ((i - 1) / M)^n.
    """
    m = rewards.size(1)
    cdf = (torch.arange(m + 1, dtype=torch.float64) / m) ** n
    order = rewards.argsort(dim=1, stable=True)
    return (values.gather(1, order) * cdf.diff()).sum(1)
