"""A path that is no model folder is told so, and not what the hub says of it."""

import pytest

from nabla_core import Reward, load_engines
from nabla_core.embedded.weights import folder
from nabla_core.errors import ModelError
from nabla_core.model_config import LM
from nabla_core.models.location import check_location, check_locations

LM_FOLDER, JUDGE = str(folder("lm")), str(folder("judge"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/no/such/model", "/no/such/model: no such folder"),
        ("./model", "./model: no such folder"),
        ("~/no-such-model", "~/no-such-model: no such folder"),
        ("models/family/lm", "models/family/lm: no such folder"),
        ("models/lm", "models/lm: no such folder; models is a folder here"),
        ("weights.safetensors", "weights.safetensors: a model is a folder, and this is a file"),
        ("./weights.safetensors", "./weights.safetensors: a model is a folder"),
    ],
)
def test_a_path_that_is_no_folder_is_named(path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(ModelError) as failure:
        check_location(path)
    assert str(failure.value).startswith(message)


def test_a_folder_and_a_hub_model_in_the_cache_pass(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lm").mkdir()
    cached = tmp_path / "cache" / "models--openai-community--gpt2"
    (cached / "snapshots" / "0123").mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for path in ("lm", "./lm", str(tmp_path / "lm"), "openai-community/gpt2"):
        check_location(path)


def test_all_wrong_settings_are_named_at_once():
    with pytest.raises(ModelError) as failure:
        check_locations({"lm.path": "/a", "reward.judge": JUDGE, "reward.guide": "/b"})
    assert str(failure.value) == "lm.path: /a: no such folder\nreward.guide: /b: no such folder"


@pytest.mark.parametrize("role", ["lm", "judge", "guide"])
@pytest.mark.parametrize("path", ["/no/such/model", "no-such-owner/no-such-model"])
def test_lm_judge_and_guide_are_told_alike(role, path):
    paths = {"lm": LM_FOLDER, "judge": JUDGE, "guide": JUDGE, role: path}
    with pytest.raises(ModelError) as failure:
        load_engines(LM(paths["lm"]), Reward(judge=paths["judge"], guide=paths["guide"]))
    message = str(failure.value)
    assert message.startswith(f"{path}: no such folder")
    assert len(message.splitlines()) == 1
