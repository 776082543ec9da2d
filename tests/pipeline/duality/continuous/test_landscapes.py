"""Gradients of the two landscapes."""

import pytest
import torch

from pipeline.duality.continuous.landscapes import three_modes_1d, three_modes_2d


@pytest.mark.parametrize("make", [three_modes_1d, three_modes_2d])
def test_the_gradients_are_those_of_the_functions(make):
    landscape = make()
    generator = torch.Generator().manual_seed(0)
    x = landscape.sample(50, generator).requires_grad_()
    (reward,) = torch.autograd.grad(landscape.reward(x).sum(), x)
    (prior,) = torch.autograd.grad(landscape.log_reference(x).sum(), x)
    assert torch.allclose(reward, landscape.reward_gradient(x), atol=1e-12)
    assert torch.allclose(prior, landscape.prior_gradient(x), atol=1e-12)
