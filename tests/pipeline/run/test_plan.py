import json
from dataclasses import replace

import pytest

from nabla_core.model_config import Runtime
from pipeline.errors import InputError
from pipeline.generate.config import GenerateConfig
from pipeline.generate.plan import plan
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts
from pipeline.run.plan import open_store

CONFIG = GenerateConfig(prompts=Prompts(limit=2))


def test_the_hash_of_a_plan_is_of_the_settings_that_shape_rows():
    described = plan(CONFIG)
    assert described.config_hash == plan(replace(CONFIG, max_attempts=9)).config_hash
    other = replace(CONFIG, runtime=Runtime(dtype="bfloat16"))
    assert described.config_hash != plan(other).config_hash
    assert described.recipe.config_hash == described.config_hash


def test_each_reading_starts_at_the_first_prompt():
    described = plan(CONFIG)
    first, again = ([item.prompt.id for item in described.read()] for _ in range(2))
    assert len(first) == 2
    assert first == again


def test_the_store_marks_its_files_with_the_hash(tmp_path):
    described = plan(replace(CONFIG, run_dir=str(tmp_path)))
    marks = open_store(described).schema.metadata
    assert described.config_hash.encode() in marks.values()


def test_an_expected_answer_that_cannot_be_graded_against_is_refused_when_prompts_are_read(
    tmp_path,
):
    path = tmp_path / "prompts.jsonl"
    lines = ({"id": "a", "prompt": "1?", "answer": None}, {"id": "b", "prompt": "2?", "answer": ""})
    path.write_text("\n".join(map(json.dumps, lines)))
    described = plan(
        GenerateConfig(prompts=Prompts(path=str(path)), verify=Verify(method="last_number"))
    )
    read = iter(described.read())
    assert next(read).prompt.id == "a"
    with pytest.raises(InputError, match=r"prompt 'b': .*the expected answer '' is empty"):
        next(read)
