"""Scripts for a GPU run on a CPU with tiny models."""

from __future__ import annotations

import pytest

from tests.bench import gpu_distill


@pytest.mark.long
def test_training_steps_lower_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    figures = gpu_distill.measure(gpu_distill.TRIAL)

    assert figures["loss_bfloat16"] == pytest.approx(figures["loss_float32"], rel=1e-2)
    # One row with gradient checkpointing, one without: the same losses.
    first, second = figures["steps"]
    assert first["last_loss"] < first["first_loss"]
    assert first["last_loss"] == pytest.approx(second["last_loss"], rel=1e-4)
    assert "tokens/s" in capsys.readouterr().out
