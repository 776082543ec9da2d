"""Part continuous at a reduced size: every check holds, every control fails, and a broken
sampler is noticed."""

import pytest

from pipeline.duality.continuous import checks as continuous
from pipeline.duality.continuous.config import ContinuousConfig
from pipeline.duality.continuous.fokker_planck import Grid
from pipeline.duality.continuous.landscapes import three_modes_1d
from pipeline.duality.continuous.particles import LANGEVIN, WRONG
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


def test_the_flow_of_another_beta_is_noticed(monkeypatch):
    monkeypatch.setattr(continuous, "WRONG", {"no noise": WRONG["no noise"]})
    grid = Grid.of(three_modes_1d(), SMALL.cells)
    laws = grid.flow_1d(grid.problem.reference, 2 * SMALL.beta, continuous.TIMES)
    results = continuous.PartResults("continuous")
    continuous.particles_1d(results, grid, laws, SMALL, 0, 1)
    assert "positive" in {f.kind for f in failed_self_checks(results.findings)}
