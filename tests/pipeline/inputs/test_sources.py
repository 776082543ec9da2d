"""Every format that prompts come in."""

import gzip

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from tests.pipeline.inputs.sources import lines, prompts_of


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


@pytest.mark.parametrize(
    ("text", "message"),
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
def test_a_bad_line_is_named(tmp_path, text, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(text)
    with pytest.raises(InputError, match=message):
        prompts_of(path)


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
