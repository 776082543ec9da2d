"""The Kolmogorov-Smirnov statistic."""

import pytest
import torch

from pipeline.duality.continuous.particles import kolmogorov, kolmogorov_threshold


def test_kolmogorov_against_a_count_by_hand():
    """Four points against a uniform law on four cells."""
    edges = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    law = torch.full((4,), 0.25, dtype=torch.float64)
    points = torch.tensor([0.5, 1.0, 3.5, 3.9], dtype=torch.float64)
    # CDF at the points .125 .25 .875 .975; the empirical one is .5 before 3.5.
    assert kolmogorov(points, edges, law) == pytest.approx(2 * 0.375)
    assert kolmogorov_threshold(4) == pytest.approx(1.828, abs=1e-3)
