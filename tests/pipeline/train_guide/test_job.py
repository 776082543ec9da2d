"""The driver around Ray Train: which checkpoint is delivered, and what is refused before.

The training is replaced, because no real one can be steered to a best checkpoint in the middle. The
same driver with a real training on Ray: tests/jobs/test_train_guide.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config import load
from pipeline.errors import InputError, ResumeError, StoreError
from pipeline.store.files import Folder
from pipeline.train_guide import job
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.folder import CARD
from pipeline.train_guide.job import train_guide
from pipeline.training.folder import HISTORY
from tests.core.tiny import Family
from tests.pipeline.train_guide.exploration import settings

SCORES = {2: 0.5, 4: 0.9, 6: 0.7}


class Checkpoint:
    """A checkpoint in a folder, as Ray Train hands it over."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        for name in ("model.safetensors", "templates/rag.jinja"):
            file = path / "model" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{name} of step {step}")
        (path / "state.pt").touch()

    @contextmanager
    def as_directory(self) -> Iterator[str]:
        yield str(self._path)


def pretend(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[str]:
    """Pretend the training; returns a list that grows with every attempt."""
    attempts: list[str] = []

    def fit(
        folder: Folder, work: Any, config: TrainGuideConfig, workers: Any, following: Any
    ) -> Any:
        attempts.append(config.run_dir)
        measurements = [{"step": n, "selection_score": s} for n, s in SCORES.items()]
        description = {"start": {}, "data": {}}
        history = {"description": description, "measurements": measurements, "skipped": []}
        folder.write(HISTORY, json.dumps({**history, "judge_gradient": None}).encode())
        pairs = [(Checkpoint(root / f"at {m['step']}", m["step"]), m) for m in measurements]
        return SimpleNamespace(best_checkpoints=pairs[1:])

    monkeypatch.setattr(job, "fit", fit)
    return attempts


def run(config: TrainGuideConfig) -> Any:
    return train_guide(config, lambda measurement: None)


def test_the_best_checkpoint_is_delivered_once(
    plain: Family, explored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    attempts = pretend(monkeypatch, tmp_path)
    config = load(TrainGuideConfig, (), settings(plain, explored, tmp_path / "run"))
    trained = run(config)
    guide = tmp_path / "run" / "guide"
    assert (trained.card["chosen_step"], trained.already_complete) == (4, False)
    assert (guide / "model.safetensors").read_text() == "model.safetensors of step 4"
    assert (guide / "templates" / "rag.jinja").exists()
    assert not (guide / "state.pt").exists()
    again = run(config)
    assert again.already_complete
    assert json.dumps(again.card) == json.dumps(trained.card)
    assert len(attempts) == 1


def test_a_card_of_another_schema_is_refused_before_anything_is_written(
    plain: Family, explored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    attempts = pretend(monkeypatch, tmp_path)
    Folder(str(tmp_path / "run")).write(CARD, b"{}")
    with pytest.raises(StoreError, match=r"has schema guide/1 and this version reads guide/2"):
        run(load(TrainGuideConfig, (), settings(plain, explored, tmp_path / "run")))
    assert not (tmp_path / "run" / "config.yaml").exists()
    assert attempts == []


def test_a_mistake_leaves_the_run_folder_free_and_starts_nothing(
    plain: Family, explored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    attempts = pretend(monkeypatch, tmp_path)
    wrong = f"data.counterfactuals=[{tmp_path / 'none'}]"
    with pytest.raises(InputError, match="no finished run folder of counterfactuals"):
        run(load(TrainGuideConfig, (), settings(plain, explored, tmp_path / "run", wrong)))
    assert not (tmp_path / "run").exists()
    assert attempts == []
    config = load(TrainGuideConfig, (), settings(plain, explored, tmp_path / "run"))
    run(config)
    wrong_seed = load(TrainGuideConfig, (), settings(plain, explored, tmp_path / "run", "seed=9"))
    started: list[str] = []
    with pytest.raises(ResumeError, match="seed: 0 in the folder, 9 now"):
        train_guide(wrong_seed, print, on_start=lambda: started.append("started"))
    assert started == []
    train_guide(config, print, on_start=lambda: started.append("started"))
    assert started == ["started"]
