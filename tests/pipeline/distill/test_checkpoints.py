"""With what a checkpoint may be continued, and how checkpoints are compared."""

from __future__ import annotations

import json

import pytest

from pipeline.config import load
from pipeline.distill.checkpoints import Checkpoints
from pipeline.distill.config import DistillConfig
from pipeline.distill.measure import Greedy
from pipeline.errors import DamagedError, ResumeError, RunError
from pipeline.training.checksums import write_checksums
from pipeline.training.trainer import History, resume_history
from tests.pipeline.distill.exported import settings
from tests.pipeline.training.damage import DAMAGES

BEFORE = {"student.path lm": "sha256:1", "data export": "c0ffee"}


def saved(path, **provenance):
    (path / "provenance.json").write_text(json.dumps({**BEFORE, **provenance}))
    history = {"description": {}, "baseline": {}, "measurements": [{"step": 4}]}
    (path / "history.json").write_text(json.dumps(history))
    write_checksums(path)
    return path


def test_another_base_or_other_data_is_named(tmp_path):
    assert resume_history(saved(tmp_path), BEFORE) == History({}, {}, [{"step": 4}])
    with pytest.raises(ResumeError, match="data export: not what it was at step 4"):
        resume_history(tmp_path, {**BEFORE, "data export": "f00d"})
    with pytest.raises(ResumeError, match="data export and data other: not what it was"):
        resume_history(tmp_path, {"student.path lm": "sha256:1", "data other": "c0ffee"})
    for file in ("history.json", "provenance.json"):
        saved(tmp_path)
        (tmp_path / file).write_text("[")
        write_checksums(tmp_path)
        with pytest.raises(DamagedError, match=r"is damaged \(JSONDecodeError\): restore it"):
            resume_history(tmp_path, BEFORE)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "model/config.json"])
def test_a_damaged_file_of_a_checkpoint_is_named_before_a_trainer_loads_it(tmp_path, name, damage):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"as it was saved")
    saved(tmp_path)
    assert resume_history(tmp_path, BEFORE).measurements
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    message = rf"checkpoint {tmp_path.name} is damaged \({name} was altered\): restore it, or"
    with pytest.raises(DamagedError, match=message):
        resume_history(tmp_path, BEFORE)
    file.unlink()
    with pytest.raises(DamagedError, match=f"{name} is missing"):
        resume_history(tmp_path, BEFORE)
    (tmp_path / "checksums.json").unlink()
    with pytest.raises(DamagedError, match=r"checksums\.json: FileNotFoundError"):
        resume_history(tmp_path, BEFORE)


def test_the_chosen_metric_is_the_score_and_a_lower_loss_is_better(plain, tmp_path):
    def score(*more, loss=None, **figures):
        config = load(DistillConfig, (), settings(plain, tmp_path, tmp_path, *more))
        known = {"accuracy": 0.5, "reward": None, "stopped": 1.0, "tokens": 4.0}
        known |= {"flops": 1e6, "failed": 0}

        def deliver(checkpoint, model):
            return Greedy(**known | figures)

        callback = Checkpoints(
            config, tmp_path, History({}, {}), {}, deliver, held_out=True, rank=0
        )
        callback.on_evaluate(None, None, None, metrics={"eval_loss": loss})
        return callback.measure(tmp_path, 2)["selection_score"]

    assert score() == 0.5
    assert score("validation.metric=reward", "validation.judge=x", reward=2.0) == 2.0
    by_loss = "validation.metric=loss"
    assert score(by_loss, loss=0.25) > score(by_loss, loss=0.5)
    with pytest.raises(RunError, match="no validation prompt has an answer"):
        score(accuracy=None)
