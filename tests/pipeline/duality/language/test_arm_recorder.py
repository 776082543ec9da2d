"""Where the frontier and gaps are estimable, and where nothing is recorded but the reason."""

import pytest

from pipeline.duality.findings import PartResults
from pipeline.duality.language.arm_recorder import ArmRecorder
from pipeline.duality.language.estimators import (
    Estimate,
    estimate_optimum,
)
from pipeline.duality.tokens.enumerable import EnumeratedModels
from tests.pipeline.duality.language.drawn import drawn


def test_where_the_weights_are_few_nothing_is_estimated(models: EnumeratedModels):
    reward = models.problem.reward[drawn(models.problem.reference, 3, 2_000, 1)]
    found = estimate_optimum(reward, 0.1)
    assert not found.estimable.any()
    with pytest.raises(ValueError, match=r"not estimable at beta 0\.1: ESS"):
        found.point()
    results = PartResults("language")
    recorder = ArmRecorder(results, reward, {2.0: estimate_optimum(reward, 2.0), 0.1: found}, 0)
    recorder.frontier()
    refused = [f for f in results.findings if f.verdict == "not estimable"]
    assert [f.arm for f in refused] == ["pi*, beta 0.1"]
    assert refused[0].value == pytest.approx(float(found.ess.min()))
    assert refused[0].threshold == 300
    assert [beta for beta, _, _ in results.plot_data["frontier"]] == [2.0]


def test_a_gap_needs_frontier_points_on_both_sides(models: EnumeratedModels):
    reward = models.problem.reward[drawn(models.problem.reference, 4, 20_000, 2)]
    results = PartResults("language")
    recorder = ArmRecorder(results, reward, {b: estimate_optimum(reward, b) for b in (2.0, 1.0)}, 0)
    recorder.frontier()
    on = models.problem.point(1.5)
    numbers = {"E[r]": Estimate(on[1], 0.0)}
    recorder.with_density("RL", Estimate(on[0], 0.0), numbers, gap=True)
    recorder.with_density("too far", Estimate(5.0, 0.0), numbers, gap=True)
    gaps = {f.arm: f for f in results.findings if f.check.startswith("gap to the frontier")}
    found = [f for f in results.findings if f.check == "gap to the frontier"]
    assert [f.arm for f in found] == ["RL"]
    assert abs(found[0].value) < 0.1
    assert gaps["too far"].verdict == "not estimable"
