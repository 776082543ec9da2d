import pickle
from dataclasses import replace

import pyarrow as pa
import pytest

from nabla_core.config import Decoding
from nabla_core.methods.answers import last_answer, same_answer
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.scheduler import drive
from nabla_core.types import Prompt
from pipeline.generate.config import GenerateConfig
from pipeline.generate.recipe import TraceRecipe
from pipeline.grading.graders import Verify

RECIPE = TraceRecipe(
    lm=LM("scripted"),
    reward=Reward(),
    decoding=Decoding(),
    runtime=Runtime(),
    verify=Verify(method="last_number"),
    seed=3,
    config_hash="c0ffee",
)
PROMPT = Prompt.of("1+2", id="p0", answer="99999999")


@pytest.fixture(scope="module")
def row():
    """The maker of a recipe that has travelled, and a row that it made."""
    maker = pickle.loads(pickle.dumps(RECIPE)).open()
    (trace,) = drive([maker.flow(PROMPT)], maker.engines)
    return maker, maker.row(PROMPT, trace)


def test_a_row_says_which_settings_and_models_made_it(row):
    columns = row[1]
    assert (columns["seed"], columns["config_hash"]) == (3, "c0ffee")
    assert columns["method"] == "nabla"
    assert columns["generation_model"] == columns["judge_model"] == "scripted"
    assert columns["tokenizer_fingerprint"] == "1"


def test_the_recipe_says_whose_tokens_are_kept(row):
    assert all(revision["tail_token_ids"] for revision in row[1]["revisions"])
    maker = replace(RECIPE, candidates="none").open()
    (trace,) = drive([maker.flow(PROMPT)], maker.engines)
    assert trace.revisions
    kept = [r["tail_token_ids"] for r in maker.row(PROMPT, trace)["revisions"]]
    assert kept == [None] * len(trace.revisions)


def test_the_response_and_the_first_response_are_graded(row):
    columns = row[1]
    # The script proposes nines, and the judge prefers them.
    assert columns["revisions"]
    assert columns["reward"] > columns["base_reward"]
    assert columns["correct"] == (columns["predicted_answer"] == PROMPT.answer)
    assert columns["base_correct"] is False


def test_columns_fit_the_schema(row):
    maker, columns = row
    known = set(RECIPE.schema.names)
    assert columns.keys() <= known
    assert maker.dead(PROMPT).keys() <= known
    table = pa.Table.from_pylist([columns, maker.dead(PROMPT)], schema=RECIPE.schema)
    assert table["response"].to_pylist()[1] is None


def test_progress_sums_revisions_rewards_and_grades(row):
    maker, columns = row
    numbers = maker.numbers(columns)
    assert numbers["proposed"] == len(columns["revisions"])
    assert 0 < numbers["accepted"] <= numbers["proposed"]
    assert numbers["base_correct"] == 0.0
    ungraded = columns | {"correct": None, "base_correct": None}
    assert maker.numbers(ungraded).keys() == {"proposed", "accepted", "reward", "base_reward"}


def test_without_a_judge_rows_have_no_reward_and_no_judge():
    recipe = replace(
        RECIPE, lm=LM(), reward=Reward(None), decoding=Decoding(method="greedy", max_tokens=4),
        verify=Verify(method="none"),
    )  # fmt: skip
    maker = recipe.open()
    (trace,) = drive([maker.flow(PROMPT)], maker.engines)
    columns = maker.row(PROMPT, trace)
    assert columns["response"] == trace.text
    assert columns["reward"] is columns["base_reward"] is None
    assert columns["judge_model"] is columns["judge_revision"] is columns["guide_model"] is None
    assert sorted(recipe.models()) == ["lm"]


@pytest.mark.parametrize("method", ["nabla", "best_of_n", "mh"])
def test_a_method_that_asks_a_judge_is_refused_without_one(method):
    with pytest.raises(ValueError, match=rf"reward\.judge=null: decoding\.method={method} needs"):
        GenerateConfig(reward=Reward(None), decoding=Decoding(method=method))


def test_a_function_of_the_users_own_grades_rows_of_prompts_without_an_answer(
    tmp_path, monkeypatch
):
    (tmp_path / "nines.py").write_text(
        "def grade(prompt, response):\n    return '99' in response\n"
    )
    monkeypatch.chdir(tmp_path)
    maker = replace(RECIPE, verify=Verify(method="custom", function="nines:grade")).open()
    prompt = replace(PROMPT, answer=None)
    (trace,) = drive([maker.flow(prompt)], maker.engines)
    columns = maker.row(prompt, trace)
    assert (columns["base_correct"], columns["correct"]) == (False, True)
    maker._grade.close()


@pytest.mark.parametrize(
    ("method", "answer", "are_same"),
    [("last_number", "3", False), ("math", r"x = 3\sqrt{13}", True)],
)
def test_votes_are_counted_by_the_equality_that_answers_are_graded_by(
    monkeypatch, method, answer, are_same
):
    passed = {}
    monkeypatch.setattr("pipeline.generate.recipe.flow", lambda *_, **kwargs: passed.update(kwargs))
    maker = replace(RECIPE, verify=Verify(method=method, seconds=60)).open()
    maker.flow(PROMPT)
    find = passed.get("answer", last_answer)
    assert find(r"so $x = 3\sqrt{13}$") == ("13" if method == "last_number" else answer)
    assert passed.get("same", same_answer)(r"\sqrt{117}", answer) is are_same
    if method == "math":
        maker._grade.close()
