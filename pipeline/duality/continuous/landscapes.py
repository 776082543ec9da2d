"""Two smooth problems: a reference law, a reward, and the drift that theory makes of them.

1-D: three modes on a line; 2-D: three correlated modes in the plane. Rewards are bounded
with Lipschitz gradients, as the theorem on gradient flows asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Field = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Landscape:
    """A problem in R^d. Points are `[..., d]`; the reference is a mixture of Gaussians with
    `weights` `[K]`, `means` `[K, d]` and common precision `[d, d]`."""

    weights: Tensor
    means: Tensor
    precision: Tensor
    reward: Field
    reward_gradient: Field
    half_width: float

    @property
    def dimension(self) -> int:
        return self.means.size(1)

    def log_reference(self, x: Tensor) -> Tensor:
        """log p_ref `[...]`."""
        d = self.dimension
        norm = 0.5 * torch.logdet(self.precision) - 0.5 * d * torch.log(
            torch.tensor(2 * torch.pi, dtype=x.dtype)
        )
        return torch.logsumexp(self._terms(x), -1) + norm

    def prior_gradient(self, x: Tensor) -> Tensor:
        """The gradient of log p_ref, `[..., d]`."""
        share = torch.softmax(self._terms(x), -1)
        return (share @ self.means - x) @ self.precision

    def single(self) -> Landscape:
        """The same in float32, for simulations."""
        return replace(
            self,
            weights=self.weights.float(),
            means=self.means.float(),
            precision=self.precision.float(),
        )

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws of the reference, `[count, d]`."""
        mode = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        shape = (count, self.dimension)
        noise = torch.randn(shape, dtype=self.means.dtype, generator=generator)
        factor = torch.linalg.cholesky(torch.linalg.inv(self.precision))
        return self.means[mode] + noise @ factor.T

    def _terms(self, x: Tensor) -> Tensor:
        # Written out (a - b)' P (a - b): [..., K, d] differences are never formed.
        px = x @ self.precision
        cross = px @ self.means.T
        own = (px * x).sum(-1, keepdim=True)
        theirs = ((self.means @ self.precision) * self.means).sum(-1)
        return self.weights.log() - 0.5 * (own - 2 * cross + theirs)


def _f(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def line() -> Landscape:
    """Three modes; the reward prefers the right one, and ripples."""
    return Landscape(
        weights=_f([0.35, 0.4, 0.25]),
        means=_f([[-2.0], [0.0], [2.0]]),
        precision=_f([[1 / 0.6**2]]),
        reward=lambda x: (torch.tanh(x) + 0.4 * torch.sin(2 * x)).squeeze(-1),
        reward_gradient=lambda x: 1 / torch.cosh(x) ** 2 + 0.8 * torch.cos(2 * x),
        half_width=6.0,
    )


def plane() -> Landscape:
    """Three modes with correlated coordinates; the reward couples them."""

    def slope(x: Tensor) -> Tensor:
        a, b = x[..., 0], x[..., 1]
        along = 1 / torch.cosh(a + b) ** 2
        return torch.stack(
            [along + 0.5 * torch.cos(a) * torch.sin(b), along + 0.5 * torch.sin(a) * torch.cos(b)],
            -1,
        )

    return Landscape(
        weights=_f([0.4, 0.35, 0.25]),
        means=_f([[-1.2, 0.6], [1.2, -0.8], [0.9, 1.2]]),
        precision=torch.linalg.inv(_f([[0.36, 0.12], [0.12, 0.3]])),
        reward=lambda x: torch.tanh(x.sum(-1)) + 0.5 * torch.sin(x[..., 0]) * torch.sin(x[..., 1]),
        reward_gradient=slope,
        half_width=4.4,
    )
