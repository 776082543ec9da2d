"""Tools of prompts, and calls of them in earlier turns, from every kind of input."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Json, List, Value

from pipeline.errors import InputError
from pipeline.inputs.prompts import Prompts, content_key, fingerprint, mapped_columns
from pipeline.inputs.row_prompt import Columns
from tests.pipeline.inputs.sources import lines, prompts_of

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {"type": "object", "properties": {"a": {"type": "number", "minimum": 1.5}}},
    },
}
BARE = {"name": "now", "parameters": {"type": "object"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
USER = {"role": "user", "content": "1+1?"}
TURNS = [
    USER,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "2", "name": "add", "tool_call_id": "c1"},
]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "1+1?", "tools": [ADD, BARE]},
        {"prompt": "1+1?", "tools": json.dumps([ADD, BARE])},
        {"messages": [USER], "tools": [ADD, BARE]},
        {"body": {"messages": [USER], "tools": [ADD, BARE], "tool_choice": "auto"}},
    ],
    ids=["text", "JSON text", "messages", "OpenAI batch"],
)
def test_tools_are_carried_as_they_are(tmp_path, row):
    (prompt,) = prompts_of(lines(tmp_path / "a.jsonl", [row]))
    assert prompt.tools == (ADD, BARE)
    assert list(prompt.tools[0]["function"]) == ["name", "description", "parameters"]
    found = mapped_columns(Prompts(path=str(tmp_path / "a.jsonl")))
    assert found["tools"] == ("body.tools" if "body" in row else "tools")


def test_the_column_of_tools_can_be_named(tmp_path):
    path = lines(tmp_path / "a.jsonl", [{"prompt": "x", "schemas": [BARE], "tools": "no JSON"}])
    assert prompts_of(path, columns=Columns(tools="schemas"))[0].tools == (BARE,)


@pytest.mark.parametrize("nothing", [None, [], "", "[]", "null", " "])
def test_no_tools_are_none_and_change_no_fingerprint(tmp_path, nothing):
    rows = [{"prompt": "x"}, {"prompt": "x", "tools": nothing}, {"prompt": "x", "tools": [BARE]}]
    bare, none, some = prompts_of(lines(tmp_path / "a.jsonl", rows))
    assert (bare.tools, none.tools, some.tools) == (None, None, (BARE,))
    assert none.id == f"{bare.id}-1"
    assert fingerprint(none) == fingerprint(bare)
    # That of a release whose prompts had no tools.
    assert (content_key(bare), fingerprint(bare)) == ("b5917ab02c289cbc", "01c8836af0d70473")
    assert content_key(some) not in (content_key(bare), content_key(none))
    assert fingerprint(some) != fingerprint(bare)


def test_the_order_of_keys_counts_since_a_model_reads_them(tmp_path):
    turned = {"parameters": BARE["parameters"], "name": "now"}
    rows = [{"prompt": "x", "tools": [BARE]}, {"prompt": "x", "tools": [turned]}]
    first, second = prompts_of(lines(tmp_path / "a.jsonl", rows))
    assert fingerprint(first) != fingerprint(second)
    calls = [
        {"function": {"name": "f", "arguments": a}} for a in ({"x": 1, "y": 2}, {"y": 2, "x": 1})
    ]
    turns = [[USER, {"role": "assistant", "tool_calls": [call]}, USER] for call in calls]
    first, second = prompts_of(lines(tmp_path / "b.jsonl", [{"messages": t} for t in turns]))
    assert fingerprint(first) != fingerprint(second)


def test_calls_and_results_of_tools_are_turns_and_the_question_is_the_users(tmp_path):
    rows = [{"messages": TURNS, "tools": [ADD]}, {"messages": [*TURNS, USER], "tools": [ADD]}]
    first, second = prompts_of(lines(tmp_path / "a.jsonl", rows))
    assert list(first.messages) == TURNS
    assert list(second.messages) == [*TURNS, USER]
    assert first.text == second.text == "1+1?"


def test_arguments_that_are_a_text_become_the_object_that_templates_write(tmp_path):
    def answered(arguments):
        function = {"name": "add"} if arguments is ... else {"name": "add", "arguments": arguments}
        return {"role": "assistant", "content": None, "tool_calls": [{"function": function}]}

    given = ['{"b": 2, "a": 1.0}', {"b": 2, "a": 1.0}, "", None, ...]
    rows = [{"messages": [USER, answered(a), USER]} for a in given]
    found = [
        prompt.messages[1]["tool_calls"][0]["function"]["arguments"]
        for prompt in prompts_of(lines(tmp_path / "a.jsonl", rows))
    ]
    assert json.dumps(found) == json.dumps([{"b": 2, "a": 1.0}] * 2 + [{}] * 3)


def test_tables_have_every_field_in_every_tool_and_none_of_them_is_a_word_of_it(tmp_path):
    """A struct of Arrow has all keys of all rows; JSON of `datasets` has each row's own."""
    rows = [
        {"messages": [USER], "tools": [BARE, ADD]},
        {"messages": TURNS, "tools": [ADD]},
        {"messages": [USER], "tools": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "struct.parquet")
    tools = {"type": "object", "properties": {"a": {"type": "number", "minimum": 1.5}}}
    struct = prompts_of(tmp_path / "struct.parquet")
    assert struct[0].tools[1] == {
        "type": "function",
        "function": {"name": "add", "description": "Adds.", "parameters": tools},
    }
    assert list(struct[1].messages) == TURNS
    assert struct[2].tools is None
    features = Features({"messages": List(Json()), "tools": List(Json())})
    saved = Dataset.from_list(rows, features=features)
    saved.save_to_disk(tmp_path / "saved")
    saved.to_parquet(tmp_path / "json.parquet")
    texts = Dataset.from_list(
        [{**row, "tools": row["tools"] and json.dumps(row["tools"])} for row in rows],
        features=Features({"messages": List(Json()), "tools": Value("string")}),
    )
    texts.to_parquet(tmp_path / "text.parquet")
    for name in ("saved", "json.parquet", "text.parquet"):
        found = prompts_of(tmp_path / name)
        assert [p.tools for p in found] == [(BARE, ADD), (ADD,), None]
        assert list(found[1].messages) == TURNS


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ('"now"', r"the tools \(column tools\): malformed JSON, character 1"),
        ('"[1"', r"the tools \(column tools\): malformed JSON, character 3"),
        ("7", r"the tools \(column tools\) are the number 7, not a list of JSON Schemas; rename"),
        ('{"name": "f"}', r"the tools \(column tools\) are an object, not a list"),
        ('["f"]', "tool 1 is a text, not an object"),
        ('[{"name": "f"}, null]', "tool 2 is missing, not an object"),
        ("[[]]", "tool 1 is a list, not an object"),
        ('[{"type": "function"}]', "tool 1 has no name: it is an object with a name, or with a"),
        ('[{"function": {"name": ""}}]', "tool 1 has no name"),
        ('[{"function": "f"}]', "tool 1 has no name"),
        ('[{"name": 7}]', "tool 1 has no name"),
        ('[{"name": "f", "parameters": "none"}]', "tool 1: parameters is a text, not a JSON"),
        ('[{"name": "f", "name": "g"}]', "tool 1 has no name"),
        ('[{"name": "f", "x": {"y": 1, "y": 2}}]', "tool 1: y is given twice"),
        ('[{"name": "f", "x": [Infinity]}]', "tool 1: a value is Infinity"),
        ('[{"name": "f", "x": 1e999}]', "tool 1 holds the number 1e999, which is too large"),
        ('[{"name": "f", "\\ud83d": 1}]', r"tools holds '\\ud83d' at character 0"),
        (f'"{"[" * 300}{"]" * 300}"', "the tools .*: lists and objects are nested more than 200"),
    ],
)  # fmt: skip
def test_malformed_tools_are_named_with_file_and_line(tmp_path, tools, message):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"prompt": "x"}}\n{{"prompt": "x", "tools": {tools}}}\n')
    with pytest.raises(InputError, match=rf"a\.jsonl:2: {message}") as refused:
        prompts_of(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"tool_calls": {"name": "f"}}, "message 2: tool_calls are an object, not a list of calls"),
        ({"tool_calls": [{"function": {}}]}, "message 2: tool call 1 has no name"),
        ({"tool_calls": [{"id": 7, "name": "f"}]}, "tool call 1: the id is the number 7"),
        (
            {"tool_calls": [{"name": "f"}, {"name": "f", "arguments": "a=1"}]},
            "message 2: tool call 2: the arguments: malformed JSON, character 1",
        ),
        (
            {"tool_calls": [{"name": "f", "arguments": [1]}]},
            "message 2: tool call 1: the arguments are a list, not an object or JSON of one",
        ),
        ({"tool_call_id": "c"}, "message 2 has tool_call_id, which no prompt carries"),
        ({"role": "tool", "tool_calls": [{"name": "f"}]}, "message 2 has tool_calls, which no"),
        ({"role": "tool", "name": 7}, "message 2: the name is the number 7, not a text"),
        ({"content": None}, "message 2: the content is missing"),
    ],
)  # fmt: skip
def test_malformed_calls_and_results_are_named(tmp_path, turn, message):
    messages = [USER, {"role": "assistant", "content": "b", **turn}, USER]
    with pytest.raises(InputError, match=rf"a\.jsonl:1: .*{message}"):
        prompts_of(lines(tmp_path / "a.jsonl", [{"messages": messages}]))


def test_tools_that_are_given_twice_are_refused(tmp_path):
    row = {"body": {"messages": [USER], "tools": [BARE]}, "tools": [BARE]}
    with pytest.raises(InputError, match=r"tools and body\.tools hold tools each: remove one"):
        prompts_of(lines(tmp_path / "a.jsonl", [row]))


def test_a_conversation_ends_with_the_user_or_with_the_result_of_a_tool(tmp_path):
    path = lines(tmp_path / "a.jsonl", [{"messages": TURNS[:2]}])
    with pytest.raises(InputError, match="the last message must be the user's, or the result of"):
        prompts_of(path)
