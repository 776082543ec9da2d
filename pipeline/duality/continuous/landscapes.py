"""Two smooth problems in R and R^2: a reference law, a reward, and their gradients.

Both references have three modes. The rewards are bounded and their gradients Lipschitz, as T2
(the theorem on gradient flows) requires.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class Landscape:
    """A problem in R^d. Points are `[..., d]`.

    The reference is a mixture of Gaussians with `weights` `[K]`, `means` `[K, d]` and a common
    `precision` `[d, d]`. `reward` maps points to `[...]`, `reward_gradient` to `[..., d]`. The
    cube of side 2 `half_width` holds all mass that matters.
    """

    weights: Tensor
    means: Tensor
    precision: Tensor
    reward: Function
    reward_gradient: Function
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
        posterior = torch.softmax(self._terms(x), -1)
        return (posterior @ self.means - x) @ self.precision

    def in_float32(self) -> Landscape:
        """The same problem in float32, for simulations."""
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
        # With L L' = covariance, L z has that covariance for standard normal z.
        factor = torch.linalg.cholesky(torch.linalg.inv(self.precision))
        return self.means[mode] + noise @ factor.T

    def _terms(self, x: Tensor) -> Tensor:
        """log(w_k) - (x - m_k)' P (x - m_k) / 2 for every mode, `[..., K]`."""
        # The square is expanded, so that the differences [..., K, d] are never stored.
        px = x @ self.precision
        cross = px @ self.means.T
        square_x = (px * x).sum(-1, keepdim=True)
        square_mean = ((self.means @ self.precision) * self.means).sum(-1)
        return self.weights.log() - 0.5 * (square_x - 2 * cross + square_mean)


def _float64(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def three_modes_1d() -> Landscape:
    """r(x) = tanh(x) + 0.4 sin(2x): it prefers the right mode and has local maxima."""
    return Landscape(
        weights=_float64([0.35, 0.4, 0.25]),
        means=_float64([[-2.0], [0.0], [2.0]]),
        precision=_float64([[1 / 0.6**2]]),
        reward=lambda x: (torch.tanh(x) + 0.4 * torch.sin(2 * x)).squeeze(-1),
        reward_gradient=lambda x: 1 / torch.cosh(x) ** 2 + 0.8 * torch.cos(2 * x),
        # More than 6 standard deviations beyond the outer modes.
        half_width=6.0,
    )


def three_modes_2d() -> Landscape:
    """r(a, b) = tanh(a + b) + 0.5 sin(a) sin(b), on modes with correlated coordinates."""

    def reward_gradient(x: Tensor) -> Tensor:
        a, b = x[..., 0], x[..., 1]
        shared = 1 / torch.cosh(a + b) ** 2
        return torch.stack(
            [
                shared + 0.5 * torch.cos(a) * torch.sin(b),
                shared + 0.5 * torch.sin(a) * torch.cos(b),
            ],
            -1,
        )

    return Landscape(
        weights=_float64([0.4, 0.35, 0.25]),
        means=_float64([[-1.2, 0.6], [1.2, -0.8], [0.9, 1.2]]),
        precision=torch.linalg.inv(_float64([[0.36, 0.12], [0.12, 0.3]])),
        reward=lambda x: torch.tanh(x.sum(-1)) + 0.5 * torch.sin(x[..., 0]) * torch.sin(x[..., 1]),
        reward_gradient=reward_gradient,
        half_width=4.4,
    )
