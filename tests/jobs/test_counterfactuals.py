"""Counterfactuals on a real Ray."""

import json
from pathlib import Path

from jobs import counterfactuals
from tests.jobs.test_generate import rows
from tests.pipeline.rows import keys


def explore(path: Path, run: Path, *more: str) -> int:
    return counterfactuals.main(
        [
            f"run_dir={run}",
            f"prompts.path={path}",
            "cluster.in_flight=8",
            "explore.temperatures=[0,1]",
            "explore.positions=2",
            "explore.alternatives=4",
            "max_tokens=8",
            *more,
        ]
    )


def test_counterfactuals_are_made_exactly_once(cluster, prompts, tmp_path, capsys):
    path, run, log = prompts("one", "!raise", "three"), tmp_path / "run", tmp_path / "log"
    lm = f"lm.path=scripted?log={log}"
    assert explore(path, run, lm, "max_dead_fraction=0.5") == 3
    assert keys(run) == [("p0", 0), ("p0", 1), ("p2", 0), ("p2", 1)]
    assert keys(run, "dead_letter") == [("p1", 0), ("p1", 1)]
    made = rows(run)
    assert [row["temperature"] for row in made] == [0.0, 1.0, 0.0, 1.0]
    assert all(len(place["scores"]) == 3 for row in made for place in row["places"])
    assert {row["tokenizer_fingerprint"] for row in made} == {"1"}
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["places"], manifest["alternatives"]) == (8, 24)
    assert "2 ValueError" in capsys.readouterr().out
    before = log.read_text()
    assert explore(path, run, lm, "max_dead_fraction=0.5") == 3
    assert log.read_text() == before
    assert explore(path, run, lm, "explore.positions=3") == 2
    assert "explore.positions: 2 in the folder, 3 now" in capsys.readouterr().err


def test_settings_that_contradict_each_other_are_named(capsys):
    given = ["lm.path=scripted", "prompts.path=embedded", "verify.method=none"]
    assert counterfactuals.main([*given, "explore.scorer=verifier"]) == 2
    assert "explore.scorer=verifier needs a verify.method" in capsys.readouterr().err
    assert counterfactuals.main([*given, "explore.alternatives=1"]) == 2
    assert "alternatives must be at least 2" in capsys.readouterr().err
