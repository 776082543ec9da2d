"""A comparison on a real Ray: arms are runs, finished ones are not made again."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs import compare, generate

CONFIG = Path(__file__).parents[2] / "configs" / "embedded.yaml"


def given(run, *more):
    return [
        *("--config", str(CONFIG), f"run_dir={run}", "prompts.limit=6", "bootstrap.resamples=200"),
        "second_judge=embedded",
        *("arms.greedy.decoding.method=greedy", "arms.search.decoding.method=nabla"),
        *("arms.sample.decoding.method=sample", "arms.sample.samples_per_prompt=4"),
        *more,
    ]


def test_arms_are_made_once_and_compared(cluster, tmp_path, capsys):
    run = tmp_path / "run"
    assert compare.main([*given(run), "--dry-run"]) == 0
    assert "search: 6 rows, 0 finished" in capsys.readouterr().out
    assert not run.exists()

    assert compare.main(given(run)) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    summary = json.loads((run / "summary.json").read_text())
    assert [arm["name"] for arm in summary["arms"]] == ["greedy", "search", "sample"]
    assert line["search"]["accuracy"] == summary["arms"][1]["accuracy"]
    assert {curve["kind"] for curve in summary["curves"]} == {
        *("pass@k", "majority of k", "best of k", "at most k proposals")
    }
    ElementTree.parse(run / "comparison.svg")
    ElementTree.parse(run / "distance.svg")
    # The second judge is the first; the sampled arm draws from the base LM, colder.
    judging = [arm["judging"] for arm in summary["arms"]]
    assert [one["second_auc"] for one in judging] == [one["auc"] for one in judging]
    assert [arm["distance"]["kind"] for arm in summary["arms"]] == [
        *("one response", "one response", "sampled")
    ]
    assert "| search | nabla |" in (run / "comparison.md").read_text()
    table = pq.read_table(run / "traces.parquet", columns=["arm", "prompt_id", "correct"])
    assert table.num_rows == 6 + 6 + 24
    right = pc.sum(table.filter(pc.field("arm") == "search")["correct"]).as_py()
    assert summary["arms"][1]["accuracy"][0] == right / 6

    # One more arm: those that are finished are left as they are.
    before = {path: path.stat().st_mtime_ns for path in (run / "arms").rglob("*.parquet")}
    assert compare.main(given(run, "arms.best.decoding.method=best_of_n")) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert "best" in json.loads(capsys.readouterr().out.splitlines()[-1])

    # Settings of the base would make other rows.
    assert compare.main(given(run, "seed=5")) == 2
    assert "seed" in capsys.readouterr().err


def test_a_run_joins_and_other_prompts_are_refused(cluster, tmp_path, capsys):
    made = tmp_path / "made"
    plain = ["--config", str(CONFIG), f"run_dir={made}", "decoding.method=greedy"]
    assert generate.main([*plain, "prompts.limit=6"]) == 0
    arms = ["arms.greedy=null", "arms.sample=null", f"runs.plain={made}", "reference=plain"]
    assert compare.main(given(tmp_path / "joined", *arms)) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["plain"]["difference"] is None

    assert compare.main(given(tmp_path / "other", *arms, "prompts.limit=5")) == 2
    assert "search and plain answer different prompts" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert compare.main(given(tmp_path / "none", *arms, f"runs.plain={tmp_path}")) == 2
    assert f"plain: {tmp_path} is no finished run folder" in capsys.readouterr().err
