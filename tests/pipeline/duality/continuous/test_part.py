"""Part continuous at reduced size: what must hold holds, what must fail fails, and a broken
instrument is noticed."""

import pytest
import torch

from pipeline.duality.continuous import part as continuous
from pipeline.duality.continuous.fokker_planck import Grid
from pipeline.duality.continuous.landscapes import line, plane
from pipeline.duality.continuous.part import Continuous
from pipeline.duality.continuous.particles import LANGEVIN, WRONG, kolmogorov, kolmogorov_threshold
from pipeline.duality.findings import broken

SMALL = Continuous(
    particles=8_000, step=0.01, cells=400, plane_cells=60, quantiles=(20, 40), ensemble=32_000
)


def test_every_check_holds_and_every_control_fails():
    book = continuous.run(SMALL, (0,))
    assert [(f.check, f.arm, f.value) for f in broken(book.findings)] == []
    kinds = [f.kind for f in book.findings]
    assert kinds.count("positive") == 21
    # Five wrong dynamics at three late times, on the line and in the plane; one path.
    assert kinds.count("control") == 2 * len(WRONG) * 3 + 1
    assert {"paths", "plane", "step rate", "ensemble rate", "quantile rate"} <= set(book.figures)


@pytest.mark.parametrize("name", WRONG)
def test_a_sampler_that_is_broken_breaks_the_stage(monkeypatch, name: str):
    """Mutations: the missing noise term, the wrong beta in it, the dropped prior, Adam."""
    monkeypatch.setattr(continuous, "LANGEVIN", WRONG[name])
    monkeypatch.setattr(continuous, "WRONG", {"no noise": WRONG["no noise"]})
    grid = Grid.of(line(), SMALL.cells)
    laws = grid.flow_line(grid.target.reference, SMALL.beta, continuous.TIMES)
    book = continuous.Book("continuous")
    continuous._line(book, grid, laws, SMALL, 0, 1)
    found = broken(book.findings)
    assert {f.kind for f in found} == {"positive"}
    assert {f.arm for f in found} == {"noisy descent"}
    assert len(found) >= 3


def test_a_control_that_passes_breaks_the_stage(monkeypatch):
    monkeypatch.setattr(continuous, "WRONG", {"no noise": LANGEVIN})
    grid = Grid.of(line(), SMALL.cells)
    laws = grid.flow_line(grid.target.reference, SMALL.beta, continuous.TIMES)
    book = continuous.Book("continuous")
    continuous._line(book, grid, laws, SMALL, 0, 1)
    assert {(f.kind, f.verdict) for f in broken(book.findings)} == {("control", "holds")}


@pytest.mark.parametrize("make", [line, plane])
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
        (Grid.of(line(), 200), Grid.flow_line),
        (Grid.of(plane(), 30), Grid.flow_plane),
    ):
        optimum = grid.target.optimum(0.5)
        (kept,) = flow(grid, optimum, 0.5, [1.0])
        assert torch.allclose(kept, optimum, atol=1e-12)
        (moved,) = flow(grid, grid.target.reference, 0.5, [0.3])
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
    grid = Grid.of(line(), SMALL.cells)
    laws = grid.flow_line(grid.target.reference, 2 * SMALL.beta, continuous.TIMES)
    book = continuous.Book("continuous")
    continuous._line(book, grid, laws, SMALL, 0, 1)
    assert "positive" in {f.kind for f in broken(book.findings)}
