"""A row of an input as a prompt."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.inputs.row_prompt import Columns
from tests.pipeline.inputs.sources import lines, prompts_of


@pytest.mark.parametrize("column", ["prompt", "problem", "question"])
def test_usual_columns_are_found(tmp_path, column):
    path = lines(tmp_path / "a.jsonl", [{column: "one?", "answer": 1, "id": 7}])
    (prompt,) = prompts_of(path)
    assert (prompt.text, prompt.answer, prompt.id) == ("one?", "1", "7")


def test_columns_can_be_named(tmp_path):
    row = {"Q": "one?", "A": "1", "key": "k", "s": "Be brief."}
    columns = Columns(prompt="Q", answer="A", id="key", system="s")
    (prompt,) = prompts_of(lines(tmp_path / "a.jsonl", [row]), columns=columns)
    assert (prompt.text, prompt.answer, prompt.id, prompt.system) == ("one?", "1", "k", "Be brief.")


def test_conversations_keep_their_turns_and_give_up_their_system_prompt(tmp_path):
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    batch = {"custom_id": "r-1", "method": "POST", "url": "/v1", "body": {"messages": turns}}
    path = lines(tmp_path / "a.jsonl", [{"messages": turns}, batch])
    plain, of_batch = prompts_of(path, system="default")
    assert plain.system == of_batch.system == "s"
    assert plain.messages == of_batch.messages == tuple(turns[1:])
    assert of_batch.id == "r-1"


def test_a_default_system_prompt_is_for_those_without_one(tmp_path):
    path = lines(tmp_path / "a.jsonl", [{"prompt": "x"}])
    assert prompts_of(path, system="Think.")[0].system == "Think."


def test_a_column_that_is_not_there_names_those_that_are(tmp_path):
    pq.write_table(pa.table({"b": ["x"], "a": ["y"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"row 1: no column 'q'; the columns are a, b"):
        prompts_of(tmp_path / "a.parquet", columns=Columns(prompt="q"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "hi \ud83d", "id": 1}, r"message 1 holds '\ud83d' at character 3"),
        ({"prompt": "hi", "id": "\udc00"}, r"id holds '\udc00' at character 0"),
        ({"prompt": "hi", "answer": "\ud83d!"}, r"answer holds '\ud83d'"),
        ({"prompt": "hi", "system": "\ud83d"}, r"system holds '\ud83d'"),
    ],
)
def test_half_a_surrogate_pair_is_named_before_any_row_is_made(tmp_path, row, message):
    path = lines(tmp_path / "a.jsonl", [{"prompt": "whole \U0001f600"}, row])
    with pytest.raises(InputError) as refused:
        prompts_of(path)
    assert f"{path}:2: {message}" in str(refused.value)
