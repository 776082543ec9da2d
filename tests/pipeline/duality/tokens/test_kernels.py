"""Kernels over all 4,096 states in float64: stationary to 1e-12, or caught."""

import pytest
import torch

from pipeline.duality.tokens import kernels
from pipeline.duality.tokens.enumerable import (
    STATES,
    EnumeratedModels,
    T,
    digits,
)


@pytest.mark.parametrize("beta", [1.0, 0.25])
@pytest.mark.parametrize("make", [kernels.suffix_resampling, kernels.discrete_langevin])
def test_a_corrected_kernel_is_stochastic_and_keeps_pi_star(
    models: EnumeratedModels, make, beta: float
):
    kernel, goal = make(models, beta), models.problem.optimum(beta)
    assert float(kernel.min()) >= 0
    assert float((kernel.sum(1) - 1).abs().max()) < 1e-12
    assert kernels.stationarity_error(kernel, goal) < 1e-12
    _, distances = kernels.follow(kernel, models.problem.reference, goal, 30)
    assert kernels.largest_rise(distances) <= 0
    assert kernels.stationarity_error(kernel, models.problem.optimum(beta * 1.01)) > 1e-4


def test_suffix_resampling_against_its_definition(models: EnumeratedModels):
    """Rows of the matrix from conditionals, one cut at a time."""
    kernel = kernels.suffix_resampling(models, 1.0, metropolis=False)
    y = digits()
    for state in (0, 77, 4095):
        expected = torch.zeros(STATES, dtype=torch.float64)
        for cut in range(T):
            same = (y[:, :cut] == y[state, :cut]).all(1)
            log_p = torch.zeros(STATES, dtype=torch.float64)
            for t in range(cut, T):
                log_p += models.conditionals[torch.arange(STATES), t, y[:, t]]
            expected += same * log_p.exp() / T
        assert torch.allclose(kernel[state], expected, atol=1e-12)
    assert kernels.stationarity_error(kernel, models.problem.reference) < 1e-12
