"""The flow on the grid."""

import pytest
import torch

from pipeline.duality.continuous.fokker_planck import Grid
from pipeline.duality.continuous.landscapes import three_modes_1d, three_modes_2d


def test_the_flow_on_the_grid_keeps_mass_and_the_optimum():
    for grid, flow in (
        (Grid.of(three_modes_1d(), 200), Grid.flow_1d),
        (Grid.of(three_modes_2d(), 30), Grid.flow_2d),
    ):
        optimum = grid.problem.optimum(0.5)
        (kept,) = flow(grid, optimum, 0.5, [1.0])
        assert torch.allclose(kept, optimum, atol=1e-12)
        (moved,) = flow(grid, grid.problem.reference, 0.5, [0.3])
        assert float(moved.sum()) == pytest.approx(1, abs=1e-10)
