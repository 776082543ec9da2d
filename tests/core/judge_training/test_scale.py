"""The factor that holds the scale of rewards fixed."""

from __future__ import annotations

import pytest

from nabla_core.judge_training.scale import scale_factor

REFERENCE = [0.0, 2.0, 10.0, 14.0]
PROMPTS = ["a", "a", "b", "b"]


def test_a_scaled_and_shifted_judge_gets_its_scale_back():
    shifted = [
        3 * reward + (7 if prompt == "a" else -5)
        for reward, prompt in zip(REFERENCE, PROMPTS, strict=True)
    ]
    for kind in ("std", "slope"):
        assert scale_factor(kind, REFERENCE, shifted, PROMPTS) == pytest.approx(1 / 3)
    assert scale_factor("free", REFERENCE, shifted, PROMPTS) == 1.0


def test_the_slope_is_that_of_least_squares_and_smaller_with_noise():
    noisy = [0.0, 2.0, 14.0, 10.0]
    # Deviations -1, 1, -2, 2 of the reference on -1, 1, 2, -2.
    assert scale_factor("std", REFERENCE, noisy, PROMPTS) == pytest.approx(1)
    assert scale_factor("slope", REFERENCE, noisy, PROMPTS) == 1.0  # (1 + 1 - 4 - 4) / 10 < 0
    less = [0.0, 2.0, 12.0, 12.0]
    assert scale_factor("slope", REFERENCE, less, PROMPTS) == pytest.approx(1)
    assert scale_factor("std", REFERENCE, less, PROMPTS) == pytest.approx(5**0.5)


def test_one_response_a_prompt_is_compared_with_the_others_and_equal_rewards_have_no_scale():
    assert scale_factor("std", [0.0, 4.0], [0.0, 1.0], ["a", "b"]) == 4.0
    assert scale_factor("std", REFERENCE, [1.0] * 4, PROMPTS) == 1.0
