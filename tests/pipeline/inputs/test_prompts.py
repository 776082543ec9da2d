import gzip
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.inputs.prompts import Columns, Prompts, fingerprint, index, read


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def prompts_of(path, **settings):
    return [item.prompt for item in read(Prompts(path=str(path), **settings))]


def test_the_embedded_task_gives_as_many_as_asked_for():
    assert [p.id for p in prompts_of("embedded", limit=3)] == [
        f"digits/test/0/{n}" for n in range(3)
    ]
    assert prompts_of("embedded", limit=1)[0].answer in "0123456789"


def test_an_unknown_split_of_the_embedded_task():
    with pytest.raises(InputError, match=r"prompts\.split: split 'dev' is none of train"):
        prompts_of("embedded", split="dev")


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


def test_ids_come_from_content_and_repetition(tmp_path):
    before = prompts_of(lines(tmp_path / "a.jsonl", [{"prompt": t} for t in "aab"]))
    after = prompts_of(lines(tmp_path / "b.jsonl", [{"prompt": t} for t in "caabd"]))
    assert len({p.id for p in before}) == 3
    assert [p.id for p in before] == [p.id for p in after[1:4]]


def test_the_same_rows_have_the_same_ids_in_every_format(tmp_path):
    rows = [{"question": "one?", "answer": "1"}, {"question": "zwei \u00e4?", "answer": "2"}]
    plain = lines(tmp_path / "a.jsonl", rows)
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)})
    splits.save_to_disk(tmp_path / "splits")
    (tmp_path / "folder").mkdir()
    for n, row in enumerate(rows):
        lines(tmp_path / "folder" / f"{n}.jsonl", [row])
    expected = prompts_of(plain)
    for name in ("a.jsonl.gz", "a.parquet", "saved", "splits", "folder"):
        assert prompts_of(tmp_path / name) == expected, name


def test_a_split_must_be_chosen_where_there_are_several(tmp_path):
    part = datasets.Dataset.from_list([{"prompt": "x"}])
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(tmp_path / "d")
    with pytest.raises(InputError, match=r"set prompts\.split; the splits are train, test"):
        prompts_of(tmp_path / "d")
    with pytest.raises(InputError, match="no split 'dev'; the splits are train, test"):
        prompts_of(tmp_path / "d", split="dev")
    assert len(prompts_of(tmp_path / "d", split="test")) == 1


def test_limit_and_blank_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\n\n{"prompt": "b"}\r\n{"prompt": "c"}')
    assert [p.text for p in prompts_of(path, limit=2)] == ["a", "b"]
    everything = prompts_of(path)
    assert prompts_of(path, skip=1) == everything[1:]
    assert prompts_of(path, skip=1, limit=1) == everything[1:2]
    with pytest.raises(InputError, match="no prompts after the first 9"):
        prompts_of(path, skip=9)
    assert prompts_of("embedded", skip=2, limit=2) == prompts_of("embedded", limit=4)[2:]
    assert [p.text for p in prompts_of(path)] == ["a", "b", "c"]


def test_a_fingerprint_follows_every_field_but_the_id(tmp_path):
    rows = [
        {"prompt": "a", "id": "1"},
        {"prompt": "a", "id": "2"},
        {"prompt": "b", "id": "3"},
        {"prompt": "a", "id": "4", "answer": "x"},
        {"prompt": "a", "id": "5", "system": "x"},
    ]
    marks = [fingerprint(p) for p in prompts_of(lines(tmp_path / "a.jsonl", rows))]
    assert marks[0] == marks[1]
    assert len(set(marks)) == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b'{"prompt": "a"}\n{"prompt": "b"\n', r"a\.jsonl:2: malformed JSON"),
        (b'{"prompt": "a"}\n[1]\n', r"a\.jsonl:2: expected a JSON object, found list"),
        (b'{"prompt": "a"}\n{"prompt": "\xff"}\n', r"a\.jsonl:2: invalid UTF-8 at byte 12"),
        (b'{"text": "a", "n": 1}\n', r"a\.jsonl:1: no prompt column .*; the columns are n, text"),
        (b'{"prompt": "a"}\n{"prompt": "  "}\n', r"a\.jsonl:2: empty prompt"),
        (b'{"prompt": null}\n', r"a\.jsonl:1: empty prompt"),
        (b'{"messages": []}\n', r"a\.jsonl:1: empty prompt"),
        (b'{"messages": [{"role": "x", "content": "a"}]}\n', r"a\.jsonl:1: role 'x' is none of"),
        (b'{"messages": [{"role": "user"}]}\n', r"a\.jsonl:1: a message must have"),
        (
            b'{"messages": [{"role": "assistant", "content": "a"}]}\n',
            r"a\.jsonl:1: the last message must be the user's",
        ),
        (b"\n\n", r"a\.jsonl: no prompts"),
        (b"", r"a\.jsonl: no prompts"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, told):
    path = tmp_path / "a.jsonl"
    path.write_bytes(text)
    with pytest.raises(InputError, match=told):
        prompts_of(path)


def test_a_column_that_is_not_there_names_those_that_are(tmp_path):
    pq.write_table(pa.table({"b": ["x"], "a": ["y"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"row 1: no column 'q'; the columns are a, b"):
        prompts_of(tmp_path / "a.parquet", columns=Columns(prompt="q"))


def test_ids_that_occur_twice_are_refused_and_three_are_named(tmp_path):
    rows = [{"prompt": "x", "id": i} for i in "aabbccddde"]
    items = read(Prompts(path=lines(tmp_path / "a.jsonl", rows)))
    with pytest.raises(InputError, match=r"4 ids occur more than once: 'a', 'b', 'c'$"):
        index(items, "a.jsonl")


@pytest.mark.parametrize("name", ["nowhere.jsonl", "nowhere.parquet"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(InputError, match=f"cannot read .*{name}"):
        prompts_of(tmp_path / name)


def test_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not at all")
    with pytest.raises(InputError, match=r"cannot read .*a\.parquet"):
        prompts_of(tmp_path / "a.parquet")


def test_a_file_of_unknown_kind_and_a_folder_without_data(tmp_path):
    (tmp_path / "a.csv").write_text("prompt\nx\n")
    with pytest.raises(InputError, match=r"a\.csv: unknown kind of file"):
        prompts_of(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"holds no \.jsonl"):
        prompts_of(tmp_path)


def test_a_dataset_that_is_nowhere(monkeypatch):
    with pytest.raises(InputError, match="cannot read prompts from no-such-owner/no-such-set"):
        prompts_of("no-such-owner/no-such-set")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "hi \ud83d", "id": 1}, r"message 1 holds '\ud83d' at character 3"),
        ({"prompt": "hi", "id": "\udc00"}, r"id holds '\udc00' at character 0"),
        ({"prompt": "hi", "answer": "\ud83d!"}, r"answer holds '\ud83d'"),
        ({"prompt": "hi", "system": "\ud83d"}, r"system holds '\ud83d'"),
    ],
)
def test_half_a_surrogate_pair_is_named_before_any_row_is_made(tmp_path, row, told):
    path = lines(tmp_path / "a.jsonl", [{"prompt": "whole \U0001f600"}, row])
    with pytest.raises(InputError) as refused:
        prompts_of(path)
    assert f"{path}:2: {told}" in str(refused.value)
