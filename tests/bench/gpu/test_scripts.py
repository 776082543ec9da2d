"""Scripts for a GPU run on a CPU with tiny models."""

from __future__ import annotations

import pytest

from tests.bench.gpu import distill, guided


@pytest.mark.long
def test_training_steps_lower_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    figures = distill.measure(distill.TRIAL)

    assert figures["loss_bfloat16"] == pytest.approx(figures["loss_float32"], rel=1e-2)
    # One row with gradient checkpointing, one without: the same losses.
    first, second = figures["steps"]
    assert first["last_loss"] < first["first_loss"]
    assert first["last_loss"] == pytest.approx(second["last_loss"], rel=1e-4)
    assert "tokens/s" in capsys.readouterr().out


@pytest.mark.long
def test_guided_decoding_is_that_of_one_pass_and_costs_twice_the_lm() -> None:
    figures = guided.measure(guided.REHEARSAL)

    assert figures["embedded"]["fp32_differ"] == 0
    law = figures["law"]
    assert law["tokens"] == law["argmax"] > 10
    assert [row["flops_ratio"] for row in figures["cost"]] == [2.0, 2.0]
