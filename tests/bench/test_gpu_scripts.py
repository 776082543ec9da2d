"""Scripts for a GPU run on a CPU with tiny models."""

from __future__ import annotations

import json

import pytest

from tests.bench import gpu_distill, gpu_guided, real_cost


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


@pytest.mark.long
def test_guided_decoding_is_that_of_one_pass_and_costs_twice_the_lm() -> None:
    figures = gpu_guided.measure(gpu_guided.REHEARSAL)

    assert figures["embedded"]["fp32_differ"] == 0
    law = figures["law"]
    assert law["tokens"] == law["argmax"] > 10
    assert [row["flops_ratio"] for row in figures["cost"]] == [2.0, 2.0]
