"""Which model a row or a card names, and how."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from nabla_core.embedded.weights import Role, folder
from nabla_core.errors import ModelError
from nabla_core.models.identity import identify, identify_loaded
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
    assert identify("somebody/some-model", "abc123").revision == "abc123"


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


def test_a_hub_model_is_named_by_its_id_and_the_commit_that_was_loaded():
    loaded = SimpleNamespace(_commit_hash=COMMIT)
    for revision in (None, "main", "v1"):
        found = identify_loaded("somebody/some-model", revision, loaded)
        assert found == Identity("somebody/some-model", COMMIT)
    assert identify_loaded("somebody/some-model", COMMIT, SimpleNamespace()).revision == COMMIT


@pytest.mark.parametrize("revision", [None, "main", "abc123"])
def test_a_hub_model_of_unknown_commit_is_refused(revision: str | None):
    with pytest.raises(ModelError, match="somebody/some-model: cannot tell which commit"):
        identify_loaded("somebody/some-model", revision, SimpleNamespace())
