"""Which model a row or a card names, and how."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from nabla_core.embedded.weights import Role, folder
from nabla_core.errors import ModelError
from nabla_core.models import loading
from nabla_core.models.identity import identify, identify_unloaded
from nabla_core.models.loading import load_language_model
from nabla_core.types import Identity
from tests.core.tiny import Family

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_another_checkpoint_has_another_revision(plain: Family, tmp_path: Path):
    first = identify(str(plain.lm), None)
    same = shutil.copytree(plain.lm, tmp_path / "same")
    assert identify(str(same), None).revision == first.revision
    weights = same / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(bytes(changed))
    assert identify(str(same), None).revision != first.revision
    assert identify("somebody/some-model", COMMIT).revision == COMMIT


def test_a_folder_is_named_by_the_last_component_of_its_path(
    plain: Family, monkeypatch: pytest.MonkeyPatch
):
    whole = identify(str(plain.lm), None)
    assert whole.name == plain.lm.name
    assert whole.revision.startswith("sha256:")
    monkeypatch.chdir(plain.lm)
    assert identify(".", None) == whole


@pytest.mark.parametrize("role", ["lm", "judge", "guide", "head"])
def test_shipped_models_are_named_by_their_role(role: Role):
    assert identify(str(folder(role)), None).name == f"embedded:{role}"


@pytest.mark.parametrize("revision", [None, "main", "abc123"])
def test_a_hub_model_of_unknown_commit_is_refused(revision: str | None):
    with pytest.raises(ModelError, match="somebody/some-model: cannot tell which commit"):
        identify("somebody/some-model", revision)


def test_the_commit_of_a_hub_model_is_the_one_that_its_branch_resolved_to(
    plain: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache = tmp_path / "models--somebody--some-model"
    shutil.copytree(plain.lm, cache / "snapshots" / COMMIT)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for revision in (None, "main", COMMIT):
        lm = load_language_model(
            "somebody/some-model",
            revision=revision,
            device=torch.device("cpu"),
            dtype=torch.float32,
        )
        assert lm.identity == Identity("somebody/some-model", COMMIT)
        assert lm.source == "somebody/some-model"
        assert identify_unloaded("somebody/some-model", revision) == lm.identity


def test_a_symbolic_link_gives_its_own_name(plain: Family, tmp_path: Path):
    (tmp_path / "current").symlink_to(plain.lm)
    found = identify(str(tmp_path / "current"), None)
    assert found == Identity("current", identify(str(plain.lm), None).revision)


@pytest.mark.parametrize("role", ["guide", "head"])
def test_the_cards_of_shipped_guides_name_the_shipped_models(role: Role):
    card = json.loads((folder(role) / "card.json").read_text())
    for model, shipped in (("start", "judge"), ("lm", "lm"), ("judge", "judge")):
        found = identify(str(folder(shipped)), None)
        assert card[model] == {"name": found.name, "revision": found.revision}
    judges = {r for source in card["data"]["sources"] for r in source["judge_revisions"]}
    assert judges == {card["judge"]["revision"]}


@pytest.mark.parametrize("path", ["./nowhere", "/no/such/folder", "~/nowhere", "org/model", "gone"])
def test_a_model_that_is_not_here_is_not_known_before_it_is_loaded(path: str):
    assert identify_unloaded(path, None) is None


def test_an_adapter_covers_the_model_that_it_is_loaded_onto(plain: Family, tmp_path: Path):
    base = Path(shutil.copytree(plain.lm, tmp_path / "base"))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(base), "revision": None})
    )
    before = identify(str(adapter), None)
    (base / "config.json").write_text((base / "config.json").read_text() + " ")
    assert identify(str(adapter), None).revision != before.revision


def test_files_that_change_while_a_model_is_loaded_are_refused(
    plain: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = Path(shutil.copytree(plain.lm, tmp_path / "model"))
    whole = loading.load_pretrained

    def replacing(*given, **options):
        loaded = whole(*given, **options)
        (model / "config.json").write_text((model / "config.json").read_text() + " ")
        return loaded

    monkeypatch.setattr(loading, "load_pretrained", replacing)
    with pytest.raises(ModelError, match="its files changed while it was loaded"):
        load_language_model(
            str(model), revision=None, device=torch.device("cpu"), dtype=torch.float32
        )
