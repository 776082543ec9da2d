"""Part continuous at reduced size: what must hold holds, what must fail fails, and a broken
instrument is noticed."""

import pytest
import torch

from pipeline.duality.continuous import checks as continuous
from pipeline.duality.continuous.config import ContinuousConfig
from pipeline.duality.continuous.fokker_planck import Grid
from pipeline.duality.continuous.landscapes import three_modes_1d, three_modes_2d
from pipeline.duality.continuous.particles import LANGEVIN, WRONG, kolmogorov, kolmogorov_threshold
from pipeline.duality.findings import failed_self_checks

SMALL = ContinuousConfig(
    particles=8_000,
    step_size=0.01,
    cells=400,
    cells_2d=60,
    quantiles=(20, 40),
    rate_particles=32_000,
)


def test_every_check_holds_and_every_control_fails():
    results = continuous.run(SMALL, (0,))
    assert [(f.check, f.arm, f.value) for f in failed_self_checks(results.findings)] == []
    kinds = [f.kind for f in results.findings]
    assert kinds.count("positive") == 21
    # Five wrong dynamics at three late times, in 1-D and in 2-D; one path.
    assert kinds.count("control") == 2 * len(WRONG) * 3 + 1
    assert {"paths", "reward and KL", "step rate", "rate in N", "quantile rate"} <= set(
        results.plot_data
    )


@pytest.mark.parametrize("name", WRONG)
def test_a_sampler_that_is_broken_breaks_the_stage(monkeypatch, name: str):
    """Mutations: the missing noise term, the wrong beta in it, the dropped prior, Adam."""
    monkeypatch.setattr(continuous, "LANGEVIN", WRONG[name])
    monkeypatch.setattr(continuous, "WRONG", {"no noise": WRONG["no noise"]})
    grid = Grid.of(three_modes_1d(), SMALL.cells)
    laws = grid.flow_1d(grid.problem.reference, SMALL.beta, continuous.TIMES)
    results = continuous.PartResults("continuous")
    continuous.particles_1d(results, grid, laws, SMALL, 0, 1)
    found = failed_self_checks(results.findings)
    assert {f.kind for f in found} == {"positive"}
    assert {f.arm for f in found} == {"noisy descent"}
    assert len(found) >= 3


def test_a_control_that_passes_breaks_the_stage(monkeypatch):
    monkeypatch.setattr(continuous, "WRONG", {"no noise": LANGEVIN})
    grid = Grid.of(three_modes_1d(), SMALL.cells)
    laws = grid.flow_1d(grid.problem.reference, SMALL.beta, continuous.TIMES)
    results = continuous.PartResults("continuous")
    continuous.particles_1d(results, grid, laws, SMALL, 0, 1)
    assert {(f.kind, f.verdict) for f in failed_self_checks(results.findings)} == {
        ("control", "holds")
    }


@pytest.mark.parametrize("make", [three_modes_1d, three_modes_2d])
def test_the_gradients_are_those_of_the_functions(make):
    landscape = make()
    generator = torch.Generator().manual_seed(0)
    x = landscape.sample(50, generator).requires_grad_()
    (reward,) = torch.autograd.grad(landscape.reward(x).sum(), x)
    (prior,) = torch.autograd.grad(landscape.log_reference(x).sum(), x)
    assert torch.allclose(reward, landscape.reward_gradient(x), atol=1e-12)
    assert torch.allclose(prior, landscape.prior_gradient(x), atol=1e-12)


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


def test_kolmogorov_against_a_count_by_hand():
    """Four points against a uniform law on four cells."""
    edges = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    law = torch.full((4,), 0.25, dtype=torch.float64)
    points = torch.tensor([0.5, 1.0, 3.5, 3.9], dtype=torch.float64)
    # CDF at the points .125 .25 .875 .975; the empirical one is .5 before 3.5.
    assert kolmogorov(points, edges, law) == pytest.approx(2 * 0.375)
    assert kolmogorov_threshold(4) == pytest.approx(1.828, abs=1e-3)


def test_another_beta_is_told_apart(monkeypatch):
    monkeypatch.setattr(continuous, "WRONG", {"no noise": WRONG["no noise"]})
    grid = Grid.of(three_modes_1d(), SMALL.cells)
    laws = grid.flow_1d(grid.problem.reference, 2 * SMALL.beta, continuous.TIMES)
    results = continuous.PartResults("continuous")
    continuous.particles_1d(results, grid, laws, SMALL, 0, 1)
    assert "positive" in {f.kind for f in failed_self_checks(results.findings)}
