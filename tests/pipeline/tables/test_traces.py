"""The rows of the trace table."""

import pyarrow as pa
import pytest

from nabla_core.types import Identity, Prompt
from pipeline.tables.traces import KEYS, TRACES, key_columns, model_columns, prompt_columns
from tests.pipeline.rows import item, row


def test_the_schema_names_kind_and_version():
    assert TRACES.metadata == {b"nabla_schema": b"traces/2"}
    assert [TRACES.field(key.name) for key in KEYS] == KEYS


@pytest.mark.parametrize("error", [None, "ValueError: no"])
def test_a_row_fits_the_schema(error):
    made = row(item("p0"), error=error)
    assert set(made) <= set(TRACES.names)
    (read,) = pa.Table.from_pylist([made], schema=TRACES).to_pylist()
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
