"""Calibration, and the judge's own gradient as the baseline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.display.guide_figures import suggestion
from nabla_core.guide_training.evaluation import agreement
from nabla_core.guide_training.trainees import scaled
from pipeline.train_guide.evaluation import calibration, judge_agreement, measure
from pipeline.train_guide.training import train_step
from tests.core.tiny import Family
from tests.pipeline.train_guide.exploration import training_state


def test_a_calibrated_guide_predicts_in_units_of_the_score(plain: Family, explored: Path):
    state = training_state(plain, explored, "optimise.learning_rate=0.01")
    assert calibration(state) == 1.0  # a new head predicts nothing, which has no slope
    for _ in range(6):
        train_step(state)
    with scaled(state.trainee, calibration(state)):
        slope = agreement(state.trainee, state.train, margin=0.0, size=8).slope
    assert slope == pytest.approx(1.0, rel=1e-3)
    off = training_state(plain, explored, "target.calibrate=false")
    train_step(off)
    assert calibration(off) == 1.0


def test_the_judge_is_measured_on_the_held_out_responses(plain: Family, explored: Path):
    state = training_state(plain, explored)
    judge = judge_agreement(state)
    assert judge is not None
    assert 0 < judge.positions <= sum(len(e.positions) for e in state.held_out)
    # Without a second derivative the judge is no gradient guide to compare with.
    assert judge_agreement(training_state(plain, explored, "optimise.attention=sdpa")) is None


def test_a_measurement_suggests_a_beta(plain: Family, explored: Path):
    state = training_state(plain, explored, "optimise.learning_rate=0.01", "validation.kl=0.05")
    new = measure(state)
    assert (new["suggested_beta"], new["suggested_gain"]) == (None, None)  # it predicts nothing
    assert "none, the predicted advantages are too small" in suggestion({"metrics": new}, 0.05)
    for _ in range(4):
        train_step(state)
    trained = measure(state)
    beta = trained["suggested_beta"]
    assert beta > 0 < trained["suggested_gain"]
    assert suggestion({"metrics": trained}, 0.05).startswith(
        f"suggested beta: {beta:g}, which moves the LM by 0.05 nats a token (validation.kl); one "
        f"unit of the judge is worth {1 / beta:.3g} nats"
    )


@pytest.mark.parametrize("kind", ["head", "gradient", "value_head"])
def test_in_bfloat16_lm_and_judge_are_read_so_and_weights_are_trained_in_float32(
    plain: Family, explored: Path, kind: str
):
    more = ("start.path=lm",) if kind == "value_head" else ()
    state = training_state(plain, explored, "optimise.dtype=bfloat16", f"kind={kind}", *more)
    assert (state.lm.table.dtype, state.judge.rm.table.dtype) == (torch.bfloat16, torch.bfloat16)
    train_step(state)
    trained = {p.dtype for p in state.trainee.model.parameters() if p.requires_grad}
    assert trained == {torch.float32}
    found = measure(state)
    assert (found["failed"], found["calls"] > 1) == (0, True)
