"""Training a policy until J stops rising: it goes on where it was, and delivers what loads."""

from dataclasses import replace

import pytest

from nabla_core import drive, greedy, load_engines
from nabla_core.embedded import task
from pipeline.duality.language.embedded_models import EmbeddedModels
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
