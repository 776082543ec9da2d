"""Scripts for a GPU run on a CPU with tiny models."""

from __future__ import annotations

import json

import pytest

from tests.bench import gpu_distill, real_cost


@pytest.mark.long
def test_training_steps_lower_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    figures = gpu_distill.measure(gpu_distill.TRIAL)

    assert figures["loss_bfloat16"] == pytest.approx(figures["loss_float32"], rel=1e-2)
    # One row with gradient checkpointing, one without: the same losses.
    first, second = figures["steps"]
    assert first["last_loss"] < first["first_loss"]
    assert first["last_loss"] == pytest.approx(second["last_loss"], rel=1e-4)
    assert "tokens/s" in capsys.readouterr().out


@pytest.mark.long
def test_the_parts_of_real_cost_run_on_tiny_models(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ["draw", "greedy", "sweep", "counterfactuals", "search"]
    monkeypatch.setattr("sys.argv", ["real_cost", "--rehearse", "--parts", *parts])
    real_cost.main()

    *table, line = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    assert report["rehearsal: greedy"]["greedy batch 2"]["equal"] == "8 of 8"
    assert report["rehearsal: sweep"]["sweep"]["figure"] > 0
    assert any(row.startswith("tiny") and "counterfactuals" in row for row in table)
