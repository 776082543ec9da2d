"""The KL-regularised optimum in closed form, on any finite set of outcomes.

    pi*_beta = p_ref exp(r / beta) / Z,   J* = beta log Z,   J(q) = J* - beta KL(q || pi*_beta)

A grid cell of a continuous law is an outcome like any other. Everything is float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Betas between which a frontier point is sought: from all reward to next to none.
SMALLEST, LARGEST = 1e-3, 1e4


def kl(q: Tensor, p: Tensor) -> float:
    """KL(q || p) in nats of two laws `[S]`; outcomes without mass under q add nothing."""
    here = q > 0
    return float((q[here] * (q[here].log() - p[here].log())).sum())


def total_variation(q: Tensor, p: Tensor) -> float:
    """Half the L1 distance of two laws `[S]`."""
    return float((q - p).abs().sum() / 2)


@dataclass(frozen=True, eq=False)
class Target:
    """A reference law and a reward: `log_ref` and `reward`, float64 `[S]`.

    Raises ValueError where a number is not finite or the law does not sum to 1.
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
        return float(q @ self.reward)

    def kl(self, q: Tensor) -> float:
        """KL(q || p_ref)."""
        return kl(q, self.reference)

    def point(self, beta: float) -> tuple[float, float]:
        """(KL, E[r]) of pi*_beta; KL = E*[r] / beta - log Z."""
        mean = self.mean_reward(self.optimum(beta))
        return mean / beta - self.log_z(beta), mean

    def frontier(self, divergence: float) -> float:
        """The highest E[r] of all laws within `divergence` of the reference."""
        beta = _bisect(lambda b: divergence - self.point(b)[0])
        return self.point(beta)[1]

    def gap(self, q: Tensor) -> float:
        """Frontier E[r] at the law's own KL, minus its E[r]: 0 on the frontier."""
        return self.frontier(self.kl(q)) - self.mean_reward(q)

    def fitted_beta(self, q: Tensor) -> float:
        """The beta whose optimum is nearest to q in KL(q || .): that of equal E[r].

        `LARGEST` where q earns no more than the reference does.
        """
        mean = self.mean_reward(q)
        return _bisect(lambda b: mean - self.point(b)[1])


def _positive(beta: float) -> float:
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta}")
    return beta


def _bisect(rises: object) -> float:
    """The beta at which a function that rises with beta crosses 0, on a log scale."""
    assert callable(rises)
    low, high = torch.tensor(SMALLEST).log().item(), torch.tensor(LARGEST).log().item()
    for _ in range(80):
        middle = (low + high) / 2
        if rises(float(torch.tensor(middle, dtype=torch.float64).exp())) < 0:
            low = middle
        else:
            high = middle
    return float(torch.tensor(high, dtype=torch.float64).exp())
