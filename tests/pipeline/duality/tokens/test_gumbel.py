"""Langevin dynamics on Gumbel noise."""

import pytest
import torch

from pipeline.duality.frontier import total_variation
from pipeline.duality.tokens.enumerable import (
    STATES,
    EnumeratedModels,
)
from pipeline.duality.tokens.gumbel import GumbelChains
from pipeline.duality.tokens.metrics import sampling_bound


def test_gumbel_noise_given_a_response_gives_that_response(models: EnumeratedModels):
    chains = GumbelChains(models, 1.0, step_size=0.5, gradient=True)
    law = torch.zeros(STATES, dtype=torch.float64)
    law[[5, 900]] = 0.5
    seen, _ = chains.run(law, 500, 0, torch.Generator().manual_seed(0))
    assert set(seen.nonzero().flatten().tolist()) == {5, 900}


@pytest.mark.parametrize("gradient", [True, False])
def test_gumbel_mala_keeps_pi_star_and_uncorrected_it_does_not(
    models: EnumeratedModels, gradient: bool
):
    goal = models.problem.optimum(1.0)
    generator = torch.Generator().manual_seed(0)
    bound = sampling_bound(goal, 20_000, generator)
    off = {}
    for metropolis in (True, False):
        chains = GumbelChains(models, 1.0, step_size=0.5, gradient=gradient, metropolis=metropolis)
        seen, _ = chains.run(goal, 20_000, 10, generator)
        off[metropolis] = total_variation(seen / seen.sum(), goal)
    assert off[True] <= bound < off[False]
