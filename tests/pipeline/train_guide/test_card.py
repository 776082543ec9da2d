"""Cards of guides: their schema, and nothing of this machine in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nabla_core.embedded.weights import folder as shipped
from pipeline.config import load
from pipeline.errors import StoreError
from pipeline.store.files import Folder
from pipeline.train_guide.card import SCHEMA, make_card, read_card, write_card
from pipeline.train_guide.checkpoints import save_checkpoint
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.folder import CARD
from pipeline.training.folder import HISTORY
from tests.core.tiny import Family
from tests.pipeline.train_guide.exploration import settings, training_state
from tests.pipeline.training.damage import DAMAGES


def card_in(path: Path, card: dict[str, Any]) -> Folder:
    folder = Folder(str(path))
    folder.write(CARD, json.dumps(card).encode())
    return folder


@pytest.mark.parametrize(("card", "found"), [({}, "guide/1"), ({"schema": "guide/9"}, "guide/9")])
def test_another_schema_is_refused_in_one_sentence(
    tmp_path: Path, card: dict[str, Any], found: str
):
    with pytest.raises(StoreError, match=f"has schema {found} and this version reads {SCHEMA}"):
        read_card(card_in(tmp_path, card))


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_card_is_one_error(tmp_path: Path, how: str):
    card_in(tmp_path, json.loads((shipped("guide") / "card.json").read_text()))
    file = tmp_path / CARD
    file.write_bytes(DAMAGES[how](file.read_bytes()))
    with pytest.raises(StoreError, match=r"card\.json (is damaged: delete it|has schema guide/1)"):
        read_card(Folder(str(tmp_path)))
    file.write_text(json.dumps({"schema": SCHEMA, "kind": "head", "metrics": [], "data": {}}))
    with pytest.raises(StoreError, match=r"card\.json is damaged: delete it, and the same command"):
        read_card(Folder(str(tmp_path)))


def test_a_card_names_models_and_data_without_a_path(plain: Family, explored: Path, tmp_path: Path):
    more = (f"run_dir={tmp_path}", "target.calibrate=false")
    state = training_state(plain, explored, *more)
    save_checkpoint(state, 0.5, tmp_path / "checkpoint", {"judge_gradient": None})
    history = json.loads((tmp_path / HISTORY).read_text())
    config = load(TrainGuideConfig, (), settings(plain, explored, tmp_path, *more))
    write_card(Folder(str(tmp_path)), make_card(config, history, 0))
    card = read_card(Folder(str(tmp_path)))
    names = [card[model]["name"] for model in ("start", "lm", "judge")]
    assert names == [plain.guide.name, plain.lm.name, plain.judge.name]
    assert all(card[model]["revision"].startswith("sha256:") for model in ("start", "lm", "judge"))
    (source,) = card["data"]["sources"]
    assert (source["folder"], source["config_hashes"]) == (explored.name, ["c0ffee"])
    assert str(plain.lm.parent) not in json.dumps(card)
    assert str(explored.parent) not in json.dumps(card)
    assert (card["metrics"]["step"], card["metrics"]["loss"]) == (0, 0.5)


@pytest.mark.parametrize("role", ["guide", "head"])
def test_shipped_guides_have_cards_of_this_schema(role: Any):
    card = read_card(card_in_run(shipped(role)))
    assert card["start"] == card["judge"]


def card_in_run(guide: Path) -> Folder:
    """The run folder whose guide has the name of the shipped one's folder."""

    class Renamed(Folder):
        def read(self, name: str) -> bytes:
            return super().read(name.replace("guide/", f"{guide.name}/", 1))

    return Renamed(str(guide.parent))
