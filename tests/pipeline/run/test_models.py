import pytest

from nabla_core.errors import ModelError
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.types import Prompt
from pipeline.run.models import identities, open_engines, render


def test_a_scripted_lm_reads_the_prompt_as_it_is():
    assert render(Prompt.of("1+2", id="p"), LM("scripted?delay=1")) == "1+2"


def test_the_embedded_lm_reads_a_prompt_in_its_template():
    assert "1+2*3" in render(Prompt.of("1+2*3", id="p"), LM())


def test_a_prompt_that_the_template_refuses_is_named(monkeypatch):
    def refuse(prompt, tokenizer, template_date):
        raise ValueError("no system prompt")

    monkeypatch.setattr("pipeline.run.models.render_for_lm", refuse)
    message = "embedded cannot render prompt p7: ValueError: no system prompt"
    with pytest.raises(ModelError, match=message):
        render(Prompt.of("1+2", id="p7"), LM())


def test_scripted_engines_batch_as_the_runtime_says():
    engines = open_engines(LM("scripted"), Reward(), Runtime(max_batch=5))
    assert {engine.capacity for engine in engines.engines} == {5}


def test_a_scripted_lm_can_fail_to_load():
    with pytest.raises(ModelError, match="no weights"):
        open_engines(LM("scripted?fail=no weights"), Reward(), Runtime())


def test_models_are_identified_as_they_are_when_loaded(plain):
    reward = Reward(judge=str(plain.judge), guide=str(plain.guide), min_coverage=0.9)
    loaded = open_engines(LM(str(plain.lm)), reward, Runtime(device="cpu")).identities
    del loaded["tokenizer"]
    assert identities(LM(str(plain.lm)), reward) == loaded
    found = identities(LM(), Reward(guide="embedded-head"))
    assert [found[role].name for role in ("lm", "judge", "guide")] == [
        "embedded:lm",
        "embedded:judge",
        "embedded:head",
    ]


def test_the_judge_as_its_own_guide_and_models_on_other_machines(plain):
    found = identities(LM("/models/elsewhere"), Reward(judge=str(plain.judge)))
    assert found.keys() == {"judge", "guide"}
    assert found["judge"] == found["guide"]
    assert identities(LM("scripted"), Reward()) == {}
