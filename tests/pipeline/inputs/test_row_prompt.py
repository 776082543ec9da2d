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


def written(tmp_path, *texts):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("digits", "integer"),
    [
        ("1.10", False),
        ("1e3", False),
        ("-0", True),
        ("0.1000000000000000055511151231257827", False),
        ("9" * 5000, True),
        ("18446744073709551617", True),
    ],
)
def test_numbers_keep_their_digits(tmp_path, digits, integer):
    path = written(tmp_path, f'{{"prompt": "x", "answer": {digits}, "unused": {digits}}}')
    (prompt,) = prompts_of(path)
    assert prompt.answer == digits
    assert type(prompt.answer) is str
    path = written(tmp_path, f'{{"prompt": "x", "id": {digits}}}')
    if integer:
        assert prompts_of(path)[0].id == digits
    else:
        with pytest.raises(InputError, match=r"jsonl:1: the id is the number .*; an id is a text"):
            prompts_of(path)


def test_nan_is_none(tmp_path):
    (prompt,) = prompts_of(written(tmp_path, '{"prompt": "x", "answer": NaN, "id": NaN}'))
    assert (prompt.answer, len(prompt.id)) == (None, 16)


USER = '{"role": "user", "content": "a"}'


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('"prompt": "x", "id": {"a": 1}', r"the id \(column id\) is an object, not"),
        ('"prompt": "x", "id": ["a"]', r"the id \(column id\) is a list, not a text or a number"),
        ('"prompt": "x", "id": true', r"the id \(column id\) is the truth value true"),
        ('"prompt": "x", "id": ""', "the id is empty"),
        ('"prompt": "x", "id": "a", "custom_id": "b"', "id and custom_id differ"),
        ('"prompt": "x", "answer": {"a": 1}', r"the answer \(column answer\) is an object"),
        ('"prompt": "x", "answer": ["a"]', r"the answer \(column answer\) is a list"),
        (
            '"prompt": "x", "answer": false',
            "column answer.* is the truth value false",
        ),
        ('"prompt": "x", "answer": Infinity', r"the answer \(column answer\) is Infinity"),
        ('"prompt": "x", "answer": "a", "answer": "a"', "answer .* is given twice"),
        ('"prompt": "x", "system": 7', r"the system prompt \(column system\) is the number 7"),
        ('"prompt": "x", "system": ["a"]', r"the system prompt \(column system\) is a list"),
        ('"prompt": 7', "prompt is the number 7, not a text or a list of messages"),
        ('"prompt": "x", "prompt": "y"', "prompt is given twice"),
        ('"prompt": {"a": "b"}', "prompt is an object"),
        ('"messages": "x"', "messages is a text, not a list of messages"),
        (f'"messages": [{USER}], "prompt": "x"', "prompt and messages hold a prompt each"),
        ('"problem": "x", "question": "x"', "problem and question hold a prompt each"),
        (
            f'"body": {{"messages": [{USER}]}}, "prompt": "x"',
            r"prompt and body\.messages hold a prompt each",
        ),
        (
            f'"messages": [{{"role": "system", "content": "s"}}, {USER}], "system": "t"',
            "a system column and a system message",
        ),
        (f'"messages": [{USER}], "functions": [{{"name": "f"}}]', "functions: give them as tools"),
        (
            f'"body": {{"messages": [{USER}], "functions": ["t"]}}',
            r"body\.functions: give them as body\.tools",
        ),
        ('"messages": ["x"]', "message 1 is a text: a message must have"),
        ('"messages": [{"role": "user", "content": 7}]', "message 1: the content is the number 7"),
        ('"messages": [{"role": "user", "content": ["a"]}]', "message 1: the content is a list"),
        ('"messages": [{"role": 7, "content": "a"}]', "message 1: role '7' is none"),
        (
            '"messages": [{"role": "user", "content": "a", "content": "b"}]',
            "message 1: the content is given twice",
        ),
        (
            f'"messages": [{{"role": "assistant", "content": "b", "tool_calls": [1]}}, {USER}]',
            "message 1: tool call 1 is the number 1, not an object",
        ),
        (
            '"messages": [{"role": "user", "content": "a", "tool_calls": [{"name": "f"}]}]',
            "message 1 has tool_calls, which no prompt carries",
        ),
        (
            '"messages": [{"role": "user", "content": "a", "name": "Ann"}]',
            "message 1 has name, which no prompt carries",
        ),
        (
            '"messages": [{"role": "user", "content": "a", "weight": false}]',
            "message 1 has weight, which no prompt carries",
        ),
        ('"\\u001b[31m": 1, "\\n": 2, "\\ud800": 3', r"columns are \\n, \\x1b\[31m, \\ud800; set"),
    ],
)
def test_what_no_prompt_would_carry_is_refused_by_name(tmp_path, row, message):
    path = written(tmp_path, '{"prompt": "whole"}', f"{{{row}}}")
    with pytest.raises(InputError, match=rf"a\.jsonl:2: .*{message}") as refused:
        prompts_of(path)
    assert "\n" not in str(refused.value)


def test_what_says_nothing_is_no_reason_to_refuse(tmp_path):
    turn = '{"role": "user", "content": "a", "name": null, "tool_calls": []}'
    row = f'{{"messages": [{turn}], "tools": [], "prompt": null, "id": 7, "custom_id": 7}}'
    unused = '{"prompt": "b", "x": {"y": 1, "y": 2}, "x": 1, "z": -Infinity}'
    first, second = prompts_of(written(tmp_path, row, unused))
    assert (first.id, list(first.messages)) == ("7", [{"role": "user", "content": "a"}])
    assert second.text == "b"
    columns = Columns(prompt="prompt")
    chosen = written(tmp_path, f'{{"messages": [{turn}], "prompt": "c"}}')
    assert prompts_of(chosen, columns=columns)[0].text == "c"
