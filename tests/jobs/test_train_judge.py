"""Judges trained on a real Ray, and a run with such a judge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs import status, train_judge
from nabla_core import Prompt, drive, load_engines, sample
from nabla_core.config import Sampling
from nabla_core.model_config import LM, Reward, Runtime
from tests.pipeline.export.runs import write_run
from tests.pipeline.train_judge.graded import runs, sample_rows, settings, train_prompts

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_workers_one_of_them_killed_train_a_judge_that_engines_load(
    plain, tmp_path, cluster, capsys, monkeypatch
):
    folders = runs(tmp_path, train_prompts(40))
    run, token = tmp_path / "judge run", tmp_path / "token"
    asked = settings(
        plain, folders, run, "workers.count=2", "validation.search=true",
        "validation.metric=accuracy", f"reward.guide={plain.judge}",
        "validation.nabla.max_rollouts=1", "goal.answers=steps",
    )  # fmt: skip
    token.touch()
    monkeypatch.setenv("NABLA_FAILPOINTS", f"judge step 4.|{token}")
    assert train_judge.main(asked) == 0
    assert not token.exists()
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("step ")] == ["2", "4", "6"]
    line = json.loads(last)
    card = json.loads((run / "judge" / "card.json").read_text())
    history = json.loads((run / "history.json").read_text())["measurements"]
    assert [m["step"] for m in history] == [2, 4, 6]
    assert card["metrics"]["selection_score"] == max(m["selection_score"] for m in history)
    assert line["step"] == card["chosen_step"]
    data = card["data"]
    assert data["trained_on"]["answers"] + data["held_out"]["answers"] == 40 * 5
    assert data["trained_on"]["hard"] > 0
    assert data["validation_overlap"] == 0
    assert str(tmp_path) not in json.dumps(card)
    report = json.loads((run / "judge" / "report.json").read_text())
    assert report["new"] == card["metrics"]["report"]
    assert report["last"]["searched"]["answers"] == 6
    assert "| searched against it | 6 |" in (run / "judge" / "README.md").read_text()

    # The folder is a judge for our engines; nothing is left to do.
    models = LM(str(plain.lm)), Reward(str(run / "judge"))
    engines = load_engines(*models, Runtime(device="cpu"))
    prompt = Prompt.of("1+2*3", id="p")
    (trace,) = drive([sample(prompt, Sampling(), max_tokens=8)], engines)
    assert trace.reward is not None
    assert train_judge.main(asked) == 0
    assert "was already there" in capsys.readouterr().out
    assert status.main([f"run_dir={run}"]) == 0
    assert "done" in capsys.readouterr().out

    # Other data are no resume.
    (run / "judge" / "card.json").unlink()  # as if the driver had died before its last write
    shutil.rmtree(folders[0])
    write_run(folders[0], sample_rows(train_prompts(39)))
    assert train_judge.main(asked) == 2
    assert "data: not what it was at step 6" in capsys.readouterr().err


def test_mistakes_are_named_before_anything_starts(plain, grouped, tmp_path, capsys):
    folders = runs(tmp_path, train_prompts(10))
    part = write_run(tmp_path / "part", sample_rows(train_prompts(2)), finished=False)
    run = tmp_path / "run"

    def refused(*more, folders=folders):
        assert train_judge.main(["--dry-run", *settings(plain, folders, run, *more)]) == 2
        return capsys.readouterr().err

    assert "part is not complete" in refused(folders=[part])
    assert "are one run" in refused(folders=[folders[0], folders[0]])
    assert "none is no run folder" in refused(folders=[str(tmp_path / "none")])
    assert "made with lm.path" not in refused(f"lm.path={grouped.lm}")
    assert "a reward model has one label" in refused(f"reward.judge={plain.lm}")
    assert "start.path: " in refused(f"start.path={tmp_path / 'none'}")
    assert "cannot tell which step" in refused(
        "goal.answers=steps", "validation.verify.method=exact"
    )
    assert "goal.answers=steps needs goal.loss=bce" in refused(
        "goal.answers=steps", "goal.loss=pairs"
    )
    assert "data.weights must have a weight for each" in refused("data.weights=[1]")
    assert "needs validation.search=true" in refused("validation.metric=accuracy")
    assert "optimise.steps must be given" in refused("optimise.steps=null")
    assert not run.exists()
    assert train_judge.main(["--dry-run", *settings(plain, folders, run)]) == 0
    shown = capsys.readouterr().out
    assert "training 6 steps of 8 answers from 30 rows in " in shown
    assert "answers  6 of 6 prompts have one, graded by verify.method=embedded" in shown
    assert not run.exists()
