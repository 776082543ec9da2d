"""The KL-regularised optimum in closed form, on any finite set of outcomes.

    pi*_beta = p_ref exp(r / beta) / Z,   J* = beta log Z,   J(q) = J* - beta KL(q || pi*_beta)

The outcomes are responses, or the cells of a grid. Everything is float64. "Law" stands for
probability distribution, here and in all modules of this package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Range of the betas among which a point of the frontier is sought: pi*_beta goes from nearly
# all mass on the best outcomes to nearly the reference.
SMALLEST_BETA, LARGEST_BETA = 1e-3, 1e4
BISECTIONS = 80


def kl(q: Tensor, p: Tensor) -> float:
    """KL(q || p) in nats of two laws `[S]`. Outcomes without mass under q add nothing."""
    support = q > 0
    return float((q[support] * (q[support].log() - p[support].log())).sum())


def total_variation(q: Tensor, p: Tensor) -> float:
    """Half the L1 distance of two laws `[S]`."""
    return float((q - p).abs().sum() / 2)


@dataclass(frozen=True, eq=False)
class RegularisedProblem:
    """Maximise J(q) = E_q[r] - beta KL(q || p_ref), given `log_ref` and `reward`, float64 `[S]`.

    Raises ValueError where a number is not finite or the reference does not sum to 1.
    """

    log_ref: Tensor
    reward: Tensor

    def __post_init__(self) -> None:
        if not self.reward.isfinite().all():
            raise ValueError("a reward is not finite")
        if not self.log_ref.isfinite().all():
            raise ValueError("a log-probability of the reference is not finite")
        mass = float(self.log_ref.exp().sum())
        if abs(mass - 1) > 1e-6:
            raise ValueError(f"the reference law sums to {mass}, not 1")

    @property
    def reference(self) -> Tensor:
        """p_ref, `[S]`."""
        return self.log_ref.exp()

    def log_z(self, beta: float) -> float:
        """log Z_beta. Raises ValueError on a beta that is not positive."""
        return float(torch.logsumexp(self.log_ref + self.reward / _positive(beta), 0))

    def optimum(self, beta: float) -> Tensor:
        """pi*_beta, `[S]`."""
        return torch.softmax(self.log_ref + self.reward / _positive(beta), 0)

    def value(self, q: Tensor, beta: float) -> float:
        """J(q)."""
        return self.mean_reward(q) - beta * self.kl(q)

    def best_value(self, beta: float) -> float:
        """J*, the value of pi*_beta."""
        return beta * self.log_z(beta)

    def mean_reward(self, q: Tensor) -> float:
        """E_q[r]."""
        return float(q @ self.reward)

    def kl(self, q: Tensor) -> float:
        """KL(q || p_ref)."""
        return kl(q, self.reference)

    def point(self, beta: float) -> tuple[float, float]:
        """(KL, E[r]) of pi*_beta, a point of the frontier; KL = E*[r] / beta - log Z."""
        mean = self.mean_reward(self.optimum(beta))
        return mean / beta - self.log_z(beta), mean

    def frontier(self, divergence: float) -> float:
        """The highest E[r] of all laws whose KL to the reference is at most `divergence`."""
        # The KL of pi*_beta falls with beta.
        beta = _root(lambda b: divergence - self.point(b)[0])
        return self.point(beta)[1]

    def gap(self, q: Tensor) -> float:
        """Frontier E[r] at the KL of q, minus E_q[r]. It is 0 on the frontier."""
        return self.frontier(self.kl(q)) - self.mean_reward(q)

    def fitted_beta(self, q: Tensor) -> float:
        """The beta that minimises KL(q || pi*_beta).

        Its derivative with respect to 1 / beta is E*_beta[r] - E_q[r], so it is the beta at
        which both have the same mean reward. `LARGEST_BETA` where q has no more mean reward
        than the reference.
        """
        mean = self.mean_reward(q)
        return _root(lambda b: mean - self.point(b)[1])


def _positive(beta: float) -> float:
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta}")
    return beta


def _root(increasing: Callable[[float], float]) -> float:
    """The beta at which a function that increases with beta crosses 0, by bisection of
    log(beta): betas of interest span orders of magnitude."""
    low, high = math.log(SMALLEST_BETA), math.log(LARGEST_BETA)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if increasing(math.exp(middle)) < 0:
            low = middle
        else:
            high = middle
    return math.exp(high)
