"""Settings of part continuous."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ContinuousConfig:
    """Part continuous: sizes of the simulations in R and R^2.

    Attributes:
        beta (reward's units per nat): KL strength.
        particles (particles): Particles of a simulation.
        step_size: Step of the Euler scheme.
        cells (cells): Cells of the grid in one dimension.
        cells_2d (cells): Cells of the grid along each side in two dimensions.
        quantiles: Sizes of the quantile policy, from small to large.
        rate_particles (particles): Particles from which the rate in N is measured.
        smallest_group (particles): Size of the smallest group; further groups double it.
    """

    beta: float = 0.5
    particles: int = 20_000
    step_size: float = 0.005
    cells: int = 800
    cells_2d: int = 88
    quantiles: tuple[int, ...] = (40, 80, 160)
    rate_particles: int = 32_000
    smallest_group: int = 250

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"continuous.beta must be positive, got {self.beta}")
        if self.rate_particles < 16 * self.smallest_group:
            raise ValueError(
                "continuous.rate_particles must be at least 16 x continuous.smallest_group"
            )
