"""Best-of-N by brute force."""

import math

import pytest
import torch

from pipeline.duality.best_of_n import best_of_n_kl_bound, best_of_n_law
from pipeline.duality.frontier import RegularisedProblem
from pipeline.duality.tokens.enumerable import (
    EnumeratedModels,
)


def test_best_of_n_by_enumeration_of_pairs():
    """Rewards with a tie: the first of equals wins, so a tie is shared as the reference does."""
    mass = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    reward = torch.tensor([2.0, 0.0, 2.0, 1.0], dtype=torch.float64)
    expected = torch.zeros(4, dtype=torch.float64)
    for i in range(4):
        for j in range(4):
            winner = j if reward[j] > reward[i] else i
            expected[winner] += mass[i] * mass[j]
    law = best_of_n_law(RegularisedProblem(mass.log(), reward), 2)
    assert torch.allclose(law, expected, atol=1e-12)


@pytest.mark.parametrize("n", [1, 4, 16])
def test_best_of_n_stays_within_its_bound(models: EnumeratedModels, n: int):
    law = best_of_n_law(models.problem, n)
    assert float(law.sum()) == pytest.approx(1, abs=1e-12)
    assert models.problem.kl(law) <= best_of_n_kl_bound(n) + 1e-12
    assert best_of_n_kl_bound(n) == pytest.approx(math.log(n) - (n - 1) / n)
