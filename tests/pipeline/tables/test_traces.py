"""The rows of the trace table."""

import pyarrow as pa
import pytest

from nabla_core.types import Identity, Prompt, Revision, Trace
from pipeline.inputs.prompts import Item
from pipeline.tables.traces import (
    KEYS,
    TRACES,
    key_columns,
    model_columns,
    prompt_columns,
    prompt_of,
    trace_columns,
)
from tests.pipeline.rows import item, row


def test_the_schema_names_kind_and_version():
    assert TRACES.metadata == {b"nabla_schema": b"traces/5"}
    assert [TRACES.field(key.name) for key in KEYS] == KEYS


@pytest.mark.parametrize("error", [None, "ValueError: no"])
def test_a_row_fits_the_schema(error):
    made = row(item("p0"), error=error)
    assert set(made) <= set(TRACES.names)
    (read,) = pa.Table.from_pylist([made], schema=TRACES).to_pylist()
    for turns in filter(None, map(read.get, ("prompt", "completion", "messages"))):
        for turn in turns:
            # A struct of Arrow has every field in every turn.
            assert [turn.pop(name) for name in ("tool_calls", "name", "tool_call_id")] == [None] * 3
    assert {name: read[name] for name in made} == made
    assert {name for name in TRACES.names if name not in made} <= {
        name for name, value in read.items() if value is None
    }


def test_a_system_prompt_is_the_first_message_and_a_column():
    made = prompt_columns(
        Prompt("p0", ({"role": "user", "content": "one?"},), system="s", answer="1")
    )
    assert made["prompt"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "one?"},
    ]
    assert (made["question"], made["system"], made["expected_answer"]) == ("one?", "s", "1")


def test_tools_and_calls_are_stored_as_json_texts_and_read_again():
    call = {"id": "c", "function": {"name": "f", "arguments": {"b": [1, None], "a": "ü"}}}
    turns = (
        {"role": "user", "content": "one?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "1", "name": "f", "tool_call_id": "c"},
    )
    tools = ({"name": "f", "parameters": {"type": "object", "default": None}}, {"name": "g"})
    prompt = Prompt("p0", turns, system="s", answer="1", tools=tools)
    made = {**prompt_columns(prompt), **key_columns(Item(prompt, "0" * 16), "w", 1, None)}
    assert made["tools"].startswith('[{"name": "f", "parameters": {"type": "object", "default": n')
    (read,) = pa.Table.from_pylist([made], schema=TRACES).to_pylist()
    assert (read["tools"], read["question"]) == (made["tools"], "one?")
    assert read["prompt"][2]["tool_calls"].endswith('"arguments": {"b": [1, null], "a": "ü"}}}]')
    assert prompt_of(read) == prompt
    bare = prompt.without_tools()
    (read,) = pa.Table.from_pylist([{**made, **prompt_columns(bare)}], schema=TRACES).to_pylist()
    assert read["tools"] is None
    assert prompt_of(read) == bare


def test_each_model_has_a_name_and_a_revision():
    identities = {"lm": Identity("embedded:lm", "sha256:1"), "judge": Identity("org/rm", "c0ffee")}
    assert model_columns(identities, generation="lm", judge="judge") == {
        "generation_model": "embedded:lm",
        "generation_revision": "sha256:1",
        "judge_model": "org/rm",
        "judge_revision": "c0ffee",
    }


def test_keys_are_those_of_the_item():
    of = item("p0", sample=2)
    made = key_columns(of, "worker", 3, None)
    assert list(made) == [key.name for key in KEYS]
    assert (made["prompt_id"], made["sample"], made["attempt"]) == ("p0", 2, 3)
    assert made["input_fingerprint"] == of.fingerprint


@pytest.mark.parametrize(("candidates", "kept"), [("all", 2), ("accepted", 1), ("none", 0)])
def test_tails_are_kept_of_the_candidates_that_were_asked_for(candidates, kept):
    revision = dict(
        position=0, from_token=1, to_token=2, from_text="1", to_text="2", confidence=0.5,
        grad_norm=0.1, advantage=0.2, reward_before=0.3, reward_after=0.2,
    )  # fmt: skip
    made = (
        Revision(**revision, accepted=False, tail_token_ids=(2, 0)),
        Revision(**revision, accepted=True, tail_token_ids=(2, 3, 0)),
    )
    trace = Trace(
        prompt_id="p", sample=0, prompt_text="", text="", tokens=(2, 3, 0), finish_reason="stop",
        base_text="", base_tokens=(1, 0), base_reward=0.3, reward=0.2, revisions=made, seed=0,
        log_probabilities=(None, -0.5, -0.25),
    )  # fmt: skip
    columns = trace_columns(item("p").prompt, trace, candidates)
    tails = [row["tail_token_ids"] for row in columns["revisions"]]
    assert (
        tails
        == {"all": [[2, 0], [2, 3, 0]], "accepted": [None, [2, 3, 0]], "none": [None] * 2}[
            candidates
        ]
    )
    assert len([tail for tail in tails if tail]) == kept
    assert columns["base_token_ids"] == [1, 0]
    assert columns["response_log_probabilities"] == [None, -0.5, -0.25]
