"""The parts of `tests.bench.real_cost` run with tiny models."""

from __future__ import annotations

import json

import pytest

from tests.bench.real_cost import __main__ as real_cost


@pytest.mark.long
def test_the_parts_of_real_cost_run_on_tiny_models(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ["draw", "greedy", "guided", "sweep", "judge", "pairs", "counterfactuals"]
    parts += ["search", "attention", "betas"]
    monkeypatch.setattr("sys.argv", ["real_cost", "--rehearse", "--only", *parts])
    real_cost.main()

    *table, line = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    assert report["rehearsal: greedy"]["greedy batch 2"]["equal"] == "8 of 8"
    assert report["rehearsal: sweep"]["sweep"]["figure"] > 0
    batches = {f"{guide} batch {size}" for guide in ("guided", "value head") for size in (1, 2)}
    assert set(report["rehearsal: guided"]) == batches
    assert any(row.startswith("tiny") and "counterfactuals" in row for row in table)
