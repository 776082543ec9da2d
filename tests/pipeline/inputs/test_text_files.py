"""Text files: what is malformed is named by its line, and nothing is lost or repaired."""

import json

import pytest

from pipeline.errors import InputError
from pipeline.inputs import text_files
from tests.pipeline.inputs.sources import prompts_of


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_list_is_read_in_blocks_of_any_size(tmp_path, monkeypatch, block, indent):
    monkeypatch.setattr(text_files, "_BLOCK", block)
    rows = [{"prompt": 'a "]\\ü\u2028' * n, "answer": {"x": [n]}, "id": n} for n in range(1, 20)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{**row, "answer": "1"} for row in rows], indent=indent))
    assert [p.text for p in prompts_of(path)] == [row["prompt"] for row in rows]
    path.write_text("")
    with pytest.raises(InputError, match="no prompts"):
        prompts_of(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '[{"prompt": "a"}', r"a\.json: the list is not closed after row 1"),
        ("a.json", '[{"prompt": "a"},]', r"a\.json row 2: malformed JSON: Expecting value"),
        ("a.json", '[{"prompt": "a"} {"prompt": "b"}]', r"a\.json: no comma after row 1"),
        ("a.json", '[{"prompt": "a"}]\n[]', r"a\.json: more text behind the list"),
        ("a.json", '[{"prompt": "a"}, 7]', r"a\.json row 2: expected a JSON object, and it is the"),
        ("a.json", '[{"prompt": "a', r"a\.json row 1: malformed JSON: Unterminated string"),
        ("a.json", '"prompt"', r"a\.json: expected a list of JSON objects"),
        ("a.json", '{\n"prompt": "a"}', r"a\.json:1: malformed JSON"),
        ("a.json", "[" * 2000, r"a\.json row 1: lists and objects are nested more than 200"),
        ("a.jsonl", '{"prompt": "a", "x": ' + "[" * 2000 + "]" * 2000 + "}", r":1: lists and"),
        ("a.jsonl", '{"prompt": "a", "x": ' + '{"y":' * 2000, r":1: lists and"),
        ("a.csv", "prompt,id\na\n", r"a\.csv:2: 1 fields, and the first line names 2 columns"),
        ("a.csv", "prompt\na,b\n", r"a\.csv:2: 2 fields, and the first line names 1 columns"),
        ("a.csv", 'prompt\n"a\n', r"a\.csv:2: malformed CSV: unexpected end of data"),
        ("a.csv", 'prompt\n"a"b\n', r"a\.csv:2: malformed CSV"),
        ("a.csv", "prompt\na\rb\n", r"a\.csv:2: malformed CSV: new-line character"),
        ("a.csv", "prompt,prompt\na,b\n", r"a\.csv:2: prompt is given by two columns"),
        ("a.csv", "text\na\n", r"a\.csv:2: no prompt column"),
        ("a.csv", "messages\n[]\n", r"a\.csv:2: messages is a text, not a list of messages"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text.encode())
    with pytest.raises(InputError, match=message):
        prompts_of(tmp_path / name)


def test_fields_of_csv_keep_their_newlines_and_spaces_and_an_empty_one_is_missing(tmp_path):
    long = "x" * 200_000
    path = tmp_path / "a.csv"
    path.write_bytes(f'prompt,answer,system,id\n" a\r\nb ",1.10,,\n{long},,NaN,7\n'.encode())
    first, second = prompts_of(path, system="s")
    assert (first.text, first.answer, first.system) == (" a\r\nb ", "1.10", "s")
    assert (second.text, second.answer, second.system, second.id) == (long, None, "NaN", "7")


@pytest.mark.parametrize("cut", ["gz", "zst", "bz2"])
def test_a_compressed_file_that_is_cut_is_named(tmp_path, cut):
    path = tmp_path / f"a.jsonl.{cut}"
    path.write_bytes(b"\x28\xb5\x2f\xfd\x04\x58" if cut == "zst" else b"\x1f\x8b\x08")
    with pytest.raises(InputError, match=rf"cannot read .*a\.jsonl\.{cut}: "):
        prompts_of(path)
