"""A training continues from its checkpoint, and the checkpoint holds a plain model."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from nabla_core import Prompt, drive, load_engines, nabla
from nabla_core.config import NablaConfig
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.errors import DamagedError, ResumeError
from pipeline.train_guide.checkpoints import load_checkpoint, publish_history, save_checkpoint
from pipeline.train_guide.folder import STATE
from pipeline.train_guide.training import train_step
from pipeline.training.cost import cost_of
from pipeline.training.folder import HISTORY, MODEL
from tests.pipeline.train_guide.exploration import training_state
from tests.pipeline.training.damage import DAMAGES


def test_lora_goes_on_from_a_checkpoint_and_leaves_a_plain_model(plain, explored, tmp_path):
    asked = ["kind=gradient", "optimise.lora.rank=4", "optimise.steps=4"]
    alone = training_state(plain, explored, *asked)
    started = alone.trainee.model.score.weight.detach().clone()
    for _ in range(4):
        train_step(alone)
    first = training_state(plain, explored, *asked, f"run_dir={tmp_path}")
    for _ in range(2):
        train_step(first)
    save_checkpoint(first, 0.0, tmp_path / "at 2", {"judge_gradient": None})
    second = training_state(plain, explored, *asked, f"run_dir={tmp_path}")
    load_checkpoint(second, tmp_path / "at 2")
    for _ in range(2):
        train_step(second)
    save_checkpoint(second, 0.0, tmp_path / "at 4", {"judge_gradient": None})
    # Counted as if nothing had interrupted it.
    cost = cost_of(second.history[-1])
    assert cost.steps == pytest.approx(alone.meter.steps)
    assert cost.data == alone.mixture.sources[0]["flops"] > 0
    assert cost.measurements > cost_of(second.history[0]).measurements > 0
    state = torch.load(tmp_path / "at 4" / "state.pt", weights_only=True)
    learned = {n: p for n, p in alone.trainee.model.named_parameters() if p.requires_grad}
    assert state["step"] == 4
    assert state["trained"].keys() == learned.keys()
    for name, weight in learned.items():
        torch.testing.assert_close(state["trained"][name], weight, rtol=1e-3, atol=1e-4)
    assert not torch.equal(learned["score.weight"], started)

    about = json.loads((tmp_path / HISTORY).read_text())["description"]
    assert about["weights"] == {
        "trained": sum(p.numel() for p in learned.values()),
        "method": "LoRA of rank 4, merged",
        "adapted_layers": 14,
    }
    made = tmp_path / "at 4" / MODEL
    weights = load_file(made / "model.safetensors")
    assert weights.keys() == plain.raw("guide").state_dict().keys()
    before = plain.raw("guide").state_dict()
    changed = {name for name in weights if not torch.equal(weights[name], before[name])}
    assert changed == {"score.weight", *(n for n in before if "_proj.weight" in n)}
    reward = Reward(str(plain.judge), guide=str(made), min_coverage=0.9)
    engines = load_engines(LM(str(plain.lm)), reward, Runtime(device="cpu"))
    flow = nabla(Prompt.of("1+2*3", id="p"), NablaConfig(proposals="ranked"), max_tokens=8)
    (trace,) = drive([flow], engines)
    assert trace.cost.rm_backward > 0


def test_a_damaged_history_is_written_again_from_the_checkpoint(plain, explored, tmp_path):
    first = training_state(plain, explored, f"run_dir={tmp_path}")
    save_checkpoint(first, 0.0, tmp_path / "at 0", {"judge_gradient": None})
    made = (tmp_path / HISTORY).read_bytes()
    (tmp_path / HISTORY).write_bytes(b"")
    second = training_state(plain, explored, f"run_dir={tmp_path}")
    publish_history(second, load_checkpoint(second, tmp_path / "at 0"))
    assert (tmp_path / HISTORY).read_bytes() == made
    for name, damage in DAMAGES.items():
        (tmp_path / name).mkdir()
        whole = (tmp_path / "at 0" / STATE).read_bytes()
        (tmp_path / name / STATE).write_bytes(damage(whole))
        with pytest.raises(DamagedError, match=f"checkpoint {name} is damaged"):
            load_checkpoint(second, tmp_path / name)
    (tmp_path / "gone").mkdir()
    with pytest.raises(DamagedError, match=r"checkpoint gone is damaged \(state\.pt: FileNotFound"):
        load_checkpoint(second, tmp_path / "gone")


def test_another_start_and_other_data_than_the_checkpoints_are_refused(plain, explored, tmp_path):
    """Adapters belong to the weights they were learned on, and a batch's number to its data."""
    asked = ["optimise.lora.rank=4", f"run_dir={tmp_path}"]
    first = training_state(plain, explored, *asked)
    train_step(first)
    save_checkpoint(first, 0.0, tmp_path, {"judge_gradient": None})
    second = training_state(plain, explored, *asked)
    load_checkpoint(second, tmp_path)
    assert second.step == 1
    for changed, message in (
        (f"start.path={plain.judge}", r"start\.path .*guide: not what it was at step 1, "),
        ("data.limit=20", r"data: not what it was at step 1, "),
    ):
        with pytest.raises(ResumeError, match=message):
            load_checkpoint(training_state(plain, explored, *asked, changed), tmp_path)
