import pytest

from nabla_core.errors import ModelError
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.types import Prompt
from pipeline.run.models import open_engines, render


def test_a_scripted_lm_reads_the_prompt_as_it_is():
    assert render(Prompt.of("1+2", id="p"), LM("scripted?delay=1")) == "1+2"


def test_the_embedded_lm_reads_a_prompt_in_its_template():
    assert "1+2*3" in render(Prompt.of("1+2*3", id="p"), LM())


def test_a_prompt_that_the_template_refuses_is_named(monkeypatch):
    def refuse(prompt, tokenizer):
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
