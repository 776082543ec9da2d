"""Settings of part continuous."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ContinuousConfig:
    """Sizes of the simulations in R and R^2.

    `beta`: KL strength, in units of the reward per nat. `particles` per simulation, moved with
    the Euler step `step_size`. `cells` of the grid in 1-D; `cells_2d` along each side in 2-D.
    `quantiles`: sizes of the quantile policy, from small to large. `rate_particles`: number of
    particles from which the rate in N is measured, in groups of `smallest_group` and of its
    doublings.
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
