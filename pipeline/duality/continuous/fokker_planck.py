"""The flow of the policy in R^d, with the law itself as the unknown.

T2: the Wasserstein-2 gradient flow of -J is the Fokker-Planck equation

    dq/dt = -div(q grad(r + beta log p_ref)) + beta laplace(q).

On a grid of cell side h it is discretised as a reversible jump process between neighbouring
cells with rates beta / h^2 * sqrt(pi*(to) / pi*(from)): mass is conserved, pi* is stationary to
rounding, and the error is O(h^2). In 1-D there is a second method, a policy of quantiles that
ascend J, which uses neither a grid nor the Fokker-Planck equation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.duality.continuous.landscapes import Landscape
from pipeline.duality.continuous.runge_kutta import runge_kutta
from pipeline.duality.frontier import RegularisedProblem


@dataclass(frozen=True, eq=False)
class Grid:
    """A cube cut into cells: `axis` `[n]` their midpoints along each coordinate, `cell` their
    side. `problem`: the landscape on the cells; laws are flattened row by row."""

    landscape: Landscape
    axis: Tensor
    cell: float
    problem: RegularisedProblem

    @classmethod
    def of(cls, landscape: Landscape, cells: int) -> Grid:
        """The landscape on a cube of `cells` cells along each coordinate."""
        half = landscape.half_width
        cell = 2 * half / cells
        axis = -half + cell * (torch.arange(cells, dtype=torch.float64) + 0.5)
        mesh = torch.meshgrid(*[axis] * landscape.dimension, indexing="ij")
        points = torch.stack([m.flatten() for m in mesh], -1)
        log_ref = landscape.log_reference(points)
        log_ref = log_ref - torch.logsumexp(log_ref, 0)
        return cls(landscape, axis, cell, RegularisedProblem(log_ref, landscape.reward(points)))

    @property
    def edges(self) -> Tensor:
        """Upper edges of the cells along a coordinate."""
        return self.axis + self.cell / 2

    def flow_1d(self, start: Tensor, beta: float, times: list[float]) -> list[Tensor]:
        """The law `[n]` at each time, 1-D, exact in time (eigenvectors of the generator)."""
        root = self.problem.optimum(beta).sqrt()
        rate = beta / self.cell**2
        # The process is reversible, so D^(-1/2) Q D^(1/2) with D = diag(pi*) is symmetric; its
        # off-diagonal entries are the constant `rate`. `eigh` then gives exp(t Q) stably.
        exit_rates = torch.zeros_like(root)
        exit_rates[:-1] += rate * root[1:] / root[:-1]
        exit_rates[1:] += rate * root[:-1] / root[1:]
        neighbours = torch.full((len(root) - 1,), rate, dtype=torch.float64)
        generator = torch.diag(neighbours, 1) + torch.diag(neighbours, -1) - torch.diag(exit_rates)
        values, vectors = torch.linalg.eigh(generator)
        modes = vectors.T @ (start / root)
        return [root * (vectors @ ((t * values).exp() * modes)) for t in times]

    def flow_2d(self, start: Tensor, beta: float, times: list[float]) -> list[Tensor]:
        """The law `[n * n]` at each time, 2-D, by classical Runge-Kutta: the generator is too
        large for its eigenvectors."""
        n = len(self.axis)
        root = self.problem.optimum(beta).sqrt().reshape(n, n)
        rate = beta / self.cell**2

        def change(law: Tensor) -> Tensor:
            total = torch.zeros_like(law)
            ratio = law / root
            for dim in (0, 1):
                low, high = root.narrow(dim, 0, n - 1), root.narrow(dim, 1, n - 1)
                # Net flux from each cell to the next one along this coordinate.
                flux = rate * (
                    ratio.narrow(dim, 0, n - 1) * high - ratio.narrow(dim, 1, n - 1) * low
                )
                total.narrow(dim, 0, n - 1).sub_(flux)
                total.narrow(dim, 1, n - 1).add_(flux)
            return total

        # Stable up to about 2.8 / (8 rate): each of four neighbours contributes 2 rate.
        step, laws, law, now = 0.5 / (4 * rate), [], start.reshape(n, n), 0.0
        for time in times:
            count = max(1, round((time - now) / step))
            law = runge_kutta(change, law, (time - now) / count, count)
            now = time
            laws.append(law.flatten())
        return laws

    def euler_1d(self, start: Tensor, beta: float, h: float, steps: int) -> Tensor:
        """The law `[n]` of the Euler scheme after `steps` steps of size `h`, 1-D, without
        particles: one step y + h drift + sqrt(2 beta h) noise is a Gaussian kernel, here a
        matrix `[n, n]` (to, from)."""
        x = self.axis[:, None]
        drift = self.landscape.reward_gradient(x) + beta * self.landscape.prior_gradient(x)
        mean = (x + h * drift).squeeze(-1)
        exponent = -((self.axis[:, None] - mean[None, :]) ** 2) / (4 * beta * h)
        kernel = torch.softmax(exponent, 0)
        law = start
        for _ in range(steps):
            law = kernel @ law
        return law

    def wasserstein(self, p: Tensor, q: Tensor) -> float:
        """W1 of two laws `[n]` in 1-D: the area between their distribution functions."""
        return float((p.cumsum(0) - q.cumsum(0)).abs().sum() * self.cell)


def quantile_flow(
    landscape: Landscape, start: Tensor, beta: float, times: list[float]
) -> list[Tensor]:
    """A policy given by its n quantiles in 1-D, ascending its own J.

    start `[n]`, increasing, at levels (i + 1/2) / n. The policy's entropy is that of mass
    1/n spread evenly between neighbours, so n dJ/dx_i is the drift plus
    beta (1 / (x_i - x_{i-1}) - 1 / (x_{i+1} - x_i)).
    """
    x, now, laws = start.clone(), 0.0, []
    for time in times:
        while now < time:
            gaps = x.diff()
            # Stable only below gap^2 / beta, as for any explicit scheme of diffusion.
            h = min(0.2 * float(gaps.min()) ** 2 / beta, time - now)
            points = x[:, None]
            ascent = landscape.reward_gradient(points) + beta * landscape.prior_gradient(points)
            ascent = ascent.squeeze(-1)
            repulsion = beta / gaps
            ascent[1:] += repulsion
            ascent[:-1] -= repulsion
            x, now = x + h * ascent, now + h
        laws.append(x)
    return laws


def quantiles(grid: Grid, law: Tensor, count: int) -> Tensor:
    """Quantiles `[count]` of a grid law at levels (i + 1/2) / count, linear within cells."""
    # Inverse of the CDF, which is linear within cells: find the cell, then the place in it.
    levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    cumulative = law.cumsum(0)
    cell = torch.searchsorted(cumulative, levels).clamp(max=len(law) - 1)
    share = (levels - (cumulative[cell] - law[cell])) / law[cell]
    return grid.axis[cell] + (share - 0.5) * grid.cell
