"""Training a value head: checkpoints, the folder that it leaves, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nabla_core import Prompt, Sampling, drive, load_engines, nabla
from nabla_core.config import NablaConfig
from nabla_core.errors import ModelError
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.compare.config import CompareConfig
from pipeline.compare.job import compare
from pipeline.config import load
from pipeline.errors import ConfigError, ResumeError
from pipeline.preview.models import inspect
from pipeline.train_guide.checkpoints import load_checkpoint, save_checkpoint
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.training import train_step
from pipeline.training.folder import HISTORY, MODEL
from tests.core.tiny import Family
from tests.pipeline.train_guide.exploration import settings, training_state

ASKED = ("kind=value_head", "start.path=lm", "value_head.width=16", "optimise.steps=4")


def test_it_goes_on_from_a_checkpoint_and_leaves_a_guide_of_its_lm(
    plain: Family, grouped: Family, explored: Path, tmp_path: Path
):
    alone = training_state(plain, explored, *ASKED)
    for _ in range(4):
        train_step(alone)
    first = training_state(plain, explored, *ASKED, f"run_dir={tmp_path}")
    for _ in range(2):
        train_step(first)
    save_checkpoint(first, 0.0, tmp_path / "at 2", {"judge_gradient": None})
    second = training_state(plain, explored, *ASKED, f"run_dir={tmp_path}")
    load_checkpoint(second, tmp_path / "at 2")
    for _ in range(2):
        train_step(second)
    metrics = save_checkpoint(second, 0.0, tmp_path / "at 4", {"judge_gradient": None})
    state = torch.load(tmp_path / "at 4" / "state.pt", weights_only=True)
    learned = dict(alone.trainee.model.named_parameters())
    assert state["trained"].keys() == learned.keys()
    for name, weight in learned.items():
        torch.testing.assert_close(state["trained"][name], weight, rtol=1e-3, atol=1e-4)
    other = training_state(plain, explored, *ASKED, f"start.path={tmp_path}/at 2/{MODEL}")
    with pytest.raises(ResumeError, match=r"start.path"):
        load_checkpoint(other, tmp_path / "at 2")

    made = tmp_path / "at 4" / MODEL
    # The network alone: the LM is not in the folder.
    assert load_file(made / "model.safetensors").keys() == learned.keys()
    config = json.loads((made / "config.json").read_text())
    assert (config["nabla_guide"], config["lm_revision"]) == (
        "value_head",
        alone.lm.identity.revision,
    )
    about = json.loads((tmp_path / HISTORY).read_text())["description"]
    assert about["lm"]["revision"] == about["start"]["revision"] == config["lm_revision"]
    assert about["weights"]["trained"] == sum(p.numel() for p in learned.values())
    assert metrics["calibration"] > 0
    reward = Reward(str(plain.judge), guide=str(made), min_coverage=0.9)
    engines = load_engines(LM(str(plain.lm)), reward, Runtime(device="cpu"))
    search = NablaConfig(proposals="ranked", rollout=Sampling(0, beta=0.5))
    (trace,) = drive([nabla(Prompt.of("1+2*3", id="p"), search, max_tokens=8)], engines)
    assert trace.revisions
    assert engines.identities["guide"].revision.startswith("sha256:")
    # A dry run refuses it with another LM, as loading does.
    reward = Reward(str(grouped.judge), guide=str(made), min_coverage=0.9)
    with pytest.raises(ModelError, match=rf"is a value head of the LM {plain.lm.name}"):
        inspect(LM(str(grouped.lm)), reward)
    # So does a comparison with an arm of another LM, before it makes an arm.
    arms = ["arms.guided.decoding.method=guided", "arms.greedy.decoding.method=greedy"]
    models = [f"lm.path={plain.lm}", f"reward.judge={plain.judge}", f"reward.guide={made}"]
    other_lm = f"arms.greedy.lm.path={grouped.lm}"
    asked = [*arms, *models, other_lm, f"run_dir={tmp_path / 'compare'}", "prompts.limit=2"]
    with pytest.raises(ConfigError, match=r"arms\.greedy: .* is a value head of the LM"):
        compare(load(CompareConfig, (), asked), watch=None)
    assert not (tmp_path / "compare").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("start.path=judge",), "start.path: a value head is on the LM"),
        (("optimise.frozen_layers=1",), "the LM is frozen as a whole"),
        (("optimise.lora.rank=4",), "the LM is frozen as a whole"),
        (("value_head.width=-1",), "value_head.width must be at least 0"),
        (("validation.nabla.proposals=left_to_right",), "a head has no gradient"),
        (("kind=gradient", "start.path=judge", "start.output=lm"), "no row for each token"),
        (
            ("target.within=0", "target.across=0", "target.scale=0", "target.score=1"),
            "a head has none",
        ),
    ],
)
def test_settings_that_do_not_suit_it_are_refused(
    plain: Family, changes: tuple[str, ...], message: str
):
    asked: Any = settings(plain, Path("explored"), "run", *ASKED, *changes)
    with pytest.raises(ConfigError, match=message):
        load(TrainGuideConfig, (), asked)


def test_a_head_starts_from_the_lms_output_layer(plain: Family, explored: Path):
    state = training_state(plain, explored, "start.output=lm")
    assert torch.equal(state.trainee.output.weight.detach(), state.lm.head.weight)
