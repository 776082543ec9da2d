"""A worker without Ray: checkpoints are measured, resumed from, and become a card with a report."""

from __future__ import annotations

import json
import shutil

import pytest
import ray.train
import torch

from nabla_core.errors import ModelError
from pipeline.config import load
from pipeline.errors import ResumeError, StoreError
from pipeline.store.files import Folder
from pipeline.train_judge import worker
from pipeline.train_judge.card import make_card, read_card, write_card
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.training.cost import cost_of
from pipeline.training.history import read_history
from tests.pipeline.export.runs import write_run
from tests.pipeline.train_judge.graded import runs, sample_rows, settings, train_prompts


@pytest.fixture
def reported(monkeypatch, tmp_path):
    """The figures of every checkpoint, and a copy of its files."""
    found = {}

    def report(metrics, checkpoint):
        kept = tmp_path / f"kept-{metrics['step']}"
        with checkpoint.as_directory() as path:
            shutil.copytree(path, kept, dirs_exist_ok=True)
        found[metrics["step"]] = (metrics, kept)

    monkeypatch.setattr(ray.train, "report", report)
    monkeypatch.setattr(worker, "get_device", lambda: torch.device("cpu"))
    return found


def test_a_training_continues_from_a_checkpoint_and_ends_with_a_card(plain, tmp_path, reported):
    folders = runs(tmp_path, train_prompts(40))
    asked = settings(plain, folders, tmp_path / "run", "goal.scale=slope", "optimise.steps=4")
    config = load(TrainJudgeConfig, (), asked)
    folder = Folder(str(tmp_path / "run"))
    first = worker._setup(config, folder, tmp_path / "first", None, 0)
    first.trainer.train()
    assert list(reported) == [2, 4]
    whole, _ = reported.pop(4)
    _, saved = reported[2]

    again = worker._setup(config, folder, tmp_path / "again", saved, 0)
    assert [m["step"] for m in read_history(folder)["measurements"]] == [2]
    again.trainer.train(resume_from_checkpoint=str(saved))
    resumed, _ = reported[4]
    assert resumed["held_out_loss"] == pytest.approx(whole["held_out_loss"], abs=1e-6)
    assert resumed["selection_score"] == -resumed["held_out_loss"]
    assert resumed["scale"] > 0
    spent, alone = cost_of(resumed), cost_of(whole)
    assert spent.steps == alone.steps > 0
    assert spent.measurements == pytest.approx(alone.measurements, rel=0.3)

    history = read_history(folder)
    card = make_card(config, history, 4)
    write_card(folder, card)
    assert cost_of(read_card(folder)) == cost_of(history["measurements"][-1])
    assert read_card(folder)["metrics"] == json.loads(json.dumps(card["metrics"]))
    report = json.loads(folder.read("judge/report.json"))
    assert report["new"]["fresh"]["best_of"].keys() == report["last"]["fresh"]["best_of"].keys()
    shown = folder.read("judge/README.md").decode()
    assert "| fresh samples | 24 |" in shown
    assert "base_model: judge" in shown
    assert str(tmp_path) not in json.dumps(card) + shown

    # Other data, or another judge, are no resume.
    shutil.rmtree(folders[0])
    write_run(folders[0], sample_rows(train_prompts(39)))
    with pytest.raises(ResumeError, match="data: not what it was at step 2"):
        worker._setup(config, folder, tmp_path / "other", saved, 0)
    moved = load(TrainJudgeConfig, (), [*asked, f"reward.judge={plain.guide}", "start.path=lm"])
    with pytest.raises((ResumeError, ModelError), match="judge"):
        worker._setup(moved, folder, tmp_path / "moved", saved, 0)


def test_a_damaged_card_is_named(tmp_path):
    folder = Folder(str(tmp_path))
    folder.write("judge/card.json", b"[")
    with pytest.raises(StoreError, match="is damaged: delete it"):
        read_card(folder)
    folder.write("judge/card.json", b'{"schema": "judge/0"}')
    with pytest.raises(StoreError, match="has schema judge/0"):
        read_card(folder)
