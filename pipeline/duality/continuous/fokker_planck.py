"""The policy's side in R^d: the law itself as unknown.

On a grid, the Wasserstein gradient flow of -J is a reversible jump process between
neighbouring cells with rates beta / h^2 * sqrt(pi*(to) / pi*(from)): mass is kept, pi* is
stationary to rounding, and the error is O(h^2). In 1-D also as a policy of quantiles that
ascend J, which knows nothing of grids, drifts or Fokker and Planck.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.duality.continuous.landscapes import Landscape
from pipeline.duality.frontier import Target


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells of a cube: `axis` `[n]` their midpoints along each coordinate, `cell` their side;
    `target` the problem on them, laws flattened row by row."""

    landscape: Landscape
    axis: Tensor
    cell: float
    target: Target

    @classmethod
    def of(cls, landscape: Landscape, cells: int) -> Grid:
        """`cells` along each coordinate."""
        half = landscape.half_width
        cell = 2 * half / cells
        axis = -half + cell * (torch.arange(cells, dtype=torch.float64) + 0.5)
        mesh = torch.meshgrid(*[axis] * landscape.dimension, indexing="ij")
        points = torch.stack([m.flatten() for m in mesh], -1)
        log_ref = landscape.log_reference(points)
        log_ref = log_ref - torch.logsumexp(log_ref, 0)
        return cls(landscape, axis, cell, Target(log_ref, landscape.reward(points)))

    @property
    def edges(self) -> Tensor:
        """Upper edges of the cells along a coordinate."""
        return self.axis + self.cell / 2

    def flow_line(self, start: Tensor, beta: float, times: list[float]) -> list[Tensor]:
        """The law at each time, 1-D, exact in time (eigenvectors of the generator)."""
        root = self.target.optimum(beta).sqrt()
        rate = beta / self.cell**2
        # Symmetrised by sqrt(pi*): rates between neighbours become the constant `rate`.
        leave = torch.zeros_like(root)
        leave[:-1] += rate * root[1:] / root[:-1]
        leave[1:] += rate * root[:-1] / root[1:]
        beside = torch.full((len(root) - 1,), rate, dtype=torch.float64)
        generator = torch.diag(beside, 1) + torch.diag(beside, -1) - torch.diag(leave)
        values, vectors = torch.linalg.eigh(generator)
        modes = vectors.T @ (start / root)
        return [root * (vectors @ ((t * values).exp() * modes)) for t in times]

    def flow_plane(self, start: Tensor, beta: float, times: list[float]) -> list[Tensor]:
        """The law at each time, 2-D, by classical Runge-Kutta."""
        n = len(self.axis)
        root = self.target.optimum(beta).sqrt().reshape(n, n)
        rate = beta / self.cell**2

        def change(law: Tensor) -> Tensor:
            moved = torch.zeros_like(law)
            ratio = law / root
            for dim in (0, 1):
                low, high = root.narrow(dim, 0, n - 1), root.narrow(dim, 1, n - 1)
                up = rate * (ratio.narrow(dim, 0, n - 1) * high - ratio.narrow(dim, 1, n - 1) * low)
                moved.narrow(dim, 0, n - 1).sub_(up)
                moved.narrow(dim, 1, n - 1).add_(up)
            return moved

        step, laws, law, now = 0.5 / (4 * rate), [], start.reshape(n, n), 0.0
        for time in times:
            count = max(1, round((time - now) / step))
            h = (time - now) / count
            for _ in range(count):
                a = change(law)
                b = change(law + h / 2 * a)
                c = change(law + h / 2 * b)
                law = law + h / 6 * (a + 2 * b + 2 * c + change(law + h * c))
            now = time
            laws.append(law.flatten())
        return laws

    def euler_line(self, start: Tensor, beta: float, h: float, steps: int) -> Tensor:
        """The law of the Euler scheme with step `h`, 1-D, no particles: its Gaussian kernel
        as a matrix."""
        x = self.axis[:, None]
        drift = self.landscape.reward_gradient(x) + beta * self.landscape.prior_gradient(x)
        centre = (x + h * drift).squeeze(-1)
        exponent = -((self.axis[:, None] - centre[None, :]) ** 2) / (4 * beta * h)
        kernel = torch.softmax(exponent, 0)
        law = start
        for _ in range(steps):
            law = kernel @ law
        return law

    def wasserstein(self, p: Tensor, q: Tensor) -> float:
        """W1 of two laws on the line."""
        return float((p.cumsum(0) - q.cumsum(0)).abs().sum() * self.cell)


def quantile_flow(
    landscape: Landscape, start: Tensor, beta: float, times: list[float]
) -> list[Tensor]:
    """A policy given by n quantiles on the line, ascending its own J.

    start `[n]`, increasing, at levels (i + 1/2) / n. The policy's entropy is that of mass
    1/n spread evenly between neighbours, so n dJ/dx_i is the drift plus
    beta (1 / (x_i - x_{i-1}) - 1 / (x_{i+1} - x_i)).
    """
    x, now, found = start.clone(), 0.0, []
    for time in times:
        while now < time:
            gaps = x.diff()
            h = min(0.2 * float(gaps.min()) ** 2 / beta, time - now)
            points = x[:, None]
            ascent = landscape.reward_gradient(points) + beta * landscape.prior_gradient(points)
            push = beta / gaps
            ascent = ascent.squeeze(-1)
            ascent[1:] += push
            ascent[:-1] -= push
            x, now = x + h * ascent, now + h
        found.append(x)
    return found


def quantiles(grid: Grid, law: Tensor, count: int) -> Tensor:
    """A grid law's quantiles `[count]` at levels (i + 1/2) / count, linear within cells."""
    levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    upper = law.cumsum(0)
    cell = torch.searchsorted(upper, levels).clamp(max=len(law) - 1)
    share = (levels - (upper[cell] - law[cell])) / law[cell]
    return grid.axis[cell] + (share - 0.5) * grid.cell
