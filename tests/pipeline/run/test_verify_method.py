"""`verify.method: auto` becomes a method once, and the run folder keeps it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.counterfactuals.plan import plan as counterfactuals_plan
from pipeline.errors import ConfigError, InputError
from pipeline.generate.config import GenerateConfig
from pipeline.generate.plan import plan
from pipeline.grading.graders import Verify, grader
from pipeline.improve.config import ImproveConfig
from pipeline.improve.ready import resolved as resolved_improve
from pipeline.inputs.prompts import Prompts
from pipeline.run.verify_method import resolve
from pipeline.store.checks.config_check import check_config
from pipeline.store.files import Folder
from pipeline.train_guide.config import Data, TrainGuideConfig, Validation
from pipeline.train_guide.ready import OWNER, resolved


@pytest.fixture
def answers(tmp_path):
    """Writes prompts with these answers; gives the settings that read them."""

    def write(*values, name="prompts.jsonl"):
        path = tmp_path / name
        rows = [{"id": f"p{n}", "prompt": f"q{n}", "answer": a} for n, a in enumerate(values)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Prompts(str(path))

    return write


def test_a_run_gets_the_method_that_fits_its_answers_and_says_so(answers, tmp_path):
    config = GenerateConfig(run_dir=str(tmp_path / "run"), prompts=answers("42", "7"))
    planned = plan(config)
    assert planned.config.verify.method == planned.recipe.verify.method == "last_number"
    assert planned.notes == ["verify.method=last_number: all 2 answers are numbers"]
    assert plan(replace(config, prompts=answers("42", "x^2"))).recipe.verify.method == "math"
    assert plan(replace(config, prompts=answers(None))).recipe.verify.method == "none"
    assert plan(GenerateConfig(run_dir=str(tmp_path))).recipe.verify.method == "embedded"
    # What the user says is taken, and not spoken of.
    said = plan(replace(config, verify=Verify(method="exact")))
    assert (said.recipe.verify.method, list(said.notes)) == ("exact", [])
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_the_method_that_it_began_with(answers, tmp_path):
    config = GenerateConfig(run_dir=str(tmp_path / "run"), prompts=answers("42", "7"))
    first = plan(config)
    check_config(Folder(config.run_dir), first.config, first.owner)
    appended = replace(config, prompts=answers("42", "7", r"\frac{1}{2}"))
    again = plan(appended)
    assert again.config.verify.method == "last_number"
    assert list(again.notes) == []
    assert again.config_hash == first.config_hash
    check_config(Folder(config.run_dir), again.config, again.owner)


@pytest.mark.parametrize("text", ["verify: {method: auto}", "verify: 3", "seed: 1", "- 1", "{", ""])
def test_a_folder_without_a_method_has_it_guessed(answers, tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    verify, notes = resolve(Verify(seconds=9), str(tmp_path), answers("x", "y"))
    assert verify == Verify(method="math", seconds=9)
    assert notes == ["verify.method=math: 2 of 2 answers are no plain numbers"]


def test_answers_that_cannot_be_graded_are_still_refused_by_their_prompt(answers, tmp_path):
    read = plan(GenerateConfig(run_dir=str(tmp_path), prompts=answers("42", " "))).read()
    with pytest.raises(InputError, match=r"prompt 'p1': verify.method=last_number: .* is empty"):
        list(read)


def test_a_setting_that_needs_answers_is_refused_where_there_are_none(answers, tmp_path):
    config = CounterfactualsConfig(run_dir=str(tmp_path), prompts=answers(None, None))
    explored = replace(config, explore=replace(config.explore, scorer="verifier"))
    with pytest.raises(ConfigError, match=r"explore\.scorer=verifier needs a verify\.method"):
        counterfactuals_plan(explored)


def test_a_training_keeps_the_method_of_its_validation(answers, tmp_path):
    config = TrainGuideConfig(
        data=Data(counterfactuals=("x",)),
        run_dir=str(tmp_path / "guide"),
        validation=Validation(prompts=answers("1", "2"), metric="accuracy"),
    )
    found, notes = resolved(config)
    assert found.validation.verify.method == "last_number"
    assert notes == ["validation.verify.method=last_number: all 2 answers are numbers"]
    check_config(Folder(config.run_dir), found, OWNER)
    validation = replace(config.validation, prompts=answers("1", "x"))
    assert resolved(replace(config, validation=validation)) == (
        replace(found, validation=replace(validation, verify=Verify(method="last_number"))),
        [],
    )


def test_all_steps_of_improve_are_graded_alike(answers, tmp_path):
    config = ImproveConfig(
        run_dir=str(tmp_path / "improve"),
        rounds=1,
        prompts=replace(answers("1", "2"), limit=2),
        eval_prompts=answers("1", "x", name="eval.jsonl"),
    )
    found, notes = resolved_improve(config)
    assert found.verify.method == "math"
    assert found.training.validation.verify.method == "embedded"
    assert notes == ["verify.method=math: 1 of 4 answers are no plain numbers"]


def test_no_response_is_graded_before_the_method_is_known():
    with pytest.raises(ValueError, match="before the answers were read"):
        grader(Verify())


def test_the_folder_is_only_read(answers, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    resolve(Verify(), str(run), answers("1"))
    assert list(Path(run).iterdir()) == []
