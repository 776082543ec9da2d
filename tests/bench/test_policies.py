"""Training a policy until J stops rising: it goes on where it was, and delivers what loads."""

import json
import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from nabla_core import drive, greedy, load_engines
from nabla_core.embedded import task
from nabla_core.embedded.weights import folder
from pipeline.duality.language.embedded_models import EmbeddedModels
from pipeline.training.cost import cost_of
from tests.bench import policies
from tests.bench.policies import Settings

SMALL = Settings(
    beta=1.0, prompts=32, group=4, every=2, held_out=20, samples=2, patience=9, cuts=0, max_steps=4
)


def test_an_interrupted_training_ends_as_one_in_a_piece(tmp_path, monkeypatch):
    whole = policies.train(SMALL, tmp_path / "whole")
    broken = replace(SMALL)
    real, calls = policies.advance, []

    def interrupted(training, settings):
        calls.append(training.step)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(training, settings)

    monkeypatch.setattr(policies, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        policies.train(broken, tmp_path / "broken")
    assert not (tmp_path / "broken" / "policy").exists()
    monkeypatch.setattr(policies, "advance", real)
    again = policies.train(broken, tmp_path / "broken")
    assert [e["step"] for e in again] == [e["step"] for e in whole] == [0, 2, 4]
    assert [e["objective"] for e in again] == [e["objective"] for e in whole]
    card = json.loads((tmp_path / "broken" / policies.CARD).read_text())
    # Four steps of 128 responses; an update costs more than drawing them.
    assert cost_of(card).steps > 2 * cost_of(card).samples > 0
    (tmp_path / "broken" / policies.CARD).write_text(json.dumps({**card, "cost": None}))
    policies.count(tmp_path / "broken")
    assert json.loads((tmp_path / "broken" / policies.CARD).read_text()) == card
    files = [tmp_path / name / "policy/model.safetensors" for name in ("whole", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()
    # A third call has nothing to do.
    assert policies.train(broken, tmp_path / "broken") == again

    # The folder is an LM like any other.
    (prompt,) = task.prompts(1, seed=0, split="test")
    engines = load_engines(str(tmp_path / "whole" / "policy"))
    (trace,) = drive([greedy(prompt, max_tokens=20)], engines)
    assert trace.tokens
    assert b"<svg" in policies.curves({"1": whole})


def test_other_settings_do_not_go_on_with_a_training():
    models = EmbeddedModels(task.prompts(2, seed=0, split="validation"))
    state = policies.state_of(policies.begin(SMALL, models), SMALL)
    other = replace(SMALL, beta=2.0, max_steps=9)
    with pytest.raises(ValueError, match="begun with other settings: beta"):
        policies.load_state(policies.begin(other, models), other, state)


def test_other_models_of_the_recipe_take_the_place_of_the_embedded_ones(tmp_path):
    for name in ("lm", "judge"):
        shutil.copytree(folder(name), tmp_path / "models" / name)
    scored = tmp_path / "models/judge/model.safetensors"
    weights = load_file(scored)
    save_file({**weights, "score.weight": 2 * weights["score.weight"]}, scored, {"format": "pt"})
    first = replace(SMALL, max_steps=0)
    shipped = policies.train(first, tmp_path / "shipped")
    other = policies.train(replace(first, models=str(tmp_path / "models")), tmp_path / "other")
    assert other[0]["reward"]["value"] == pytest.approx(2 * shipped[0]["reward"]["value"])
    assert other[0]["kl"] == shipped[0]["kl"]
