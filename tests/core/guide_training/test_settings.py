"""Settings of guide training that make no sense are refused."""

from __future__ import annotations

import pytest

from nabla_core.guide_training.settings import Optimise, Target


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip": 0.0}, r"optimise\.clip must be above 0, got 0"),
        ({"learning_rate": -1e-3}, r"optimise\.learning_rate must be above 0"),
        ({"weight_decay": -0.1}, r"optimise\.weight_decay must be at least 0"),
    ],
)
def test_steps_that_would_learn_nothing_are_refused(wrong: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        Optimise(**wrong)  # type: ignore[arg-type]


def test_a_gradient_turns_before_its_size_is_taught():
    target = Target(within=0.5, across=2.0, score=1.0, direction_steps=3)
    assert target.at(4) is target
    first = target.at(3)
    assert (first.within, first.across, first.scale, first.mirror, first.score) == (1, 0, 0, 0, 0)
    assert first.temperature == target.temperature
    with pytest.raises(ValueError, match=r"target\.direction_steps must be at least 0"):
        Target(direction_steps=-1)


def test_the_learning_rate_rises_and_falls_to_a_tenth():
    optimise = Optimise(steps=100, warmup=10, learning_rate=1.0)
    assert optimise.rate(5) == pytest.approx(0.5 * (1 - 0.9 * 0.05))
    assert optimise.rate(100) == pytest.approx(0.1)
    assert Optimise(steps=100, warmup=0, learning_rate=1.0).rate(1) == pytest.approx(0.991)
