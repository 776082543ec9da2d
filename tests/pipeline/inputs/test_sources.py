"""Every format that prompts come in."""

import gzip
import json
import socket

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
    (tmp_path / "folder" / "._0.jsonl").write_bytes(b"\xff")
    for name, data in (
        ("a.json", json.dumps(rows, ensure_ascii=False)),
        ("pretty.json", json.dumps(rows, indent=2)),
        ("lines.json", (tmp_path / "a.jsonl").read_text()),
        ("a.csv", 'question,answer\r\none?,1\r\n"zwei \u00e4?","2"\r\n'),
        ("a.tsv", "\ufeffanswer\tquestion\n\n1\tone?\n2\tzwei \u00e4?"),
    ):
        (tmp_path / name).write_bytes(data.encode())
        for suffix, codec in (("zst", "zstd"), ("bz2", "bz2"), ("gz", "gzip")):
            with pa.CompressedOutputStream(str(tmp_path / f"{name}.{suffix}"), codec) as sink:
                sink.write(data.encode())
    expected = prompts_of(plain)
    for name in ("a.jsonl.gz", "a.parquet", "saved", "splits", "folder", "folder/[01].jsonl"):
        assert prompts_of(tmp_path / name) == expected, name
    for name in ("a.json", "pretty.json", "lines.json", "a.csv", "a.tsv"):
        for suffix in ("", ".gz", ".zst", ".bz2"):
            assert prompts_of(tmp_path / f"{name}{suffix}") == expected, name + suffix


def test_a_folder_of_several_kinds_is_read_where_no_file_is_left_out_silently(tmp_path):
    (tmp_path / "a.json").write_text('[{"prompt": "a"}]')
    assert [p.text for p in prompts_of(tmp_path)] == ["a"]
    lines(tmp_path / "b.jsonl", [{"prompt": "b"}])
    pq.write_table(pa.table({"prompt": ["c"]}), tmp_path / "c.parquet")
    # The .json beside them describes them.
    assert [p.text for p in prompts_of(tmp_path)] == ["b", "c"]
    (tmp_path / "d.csv").write_text("prompt\nd\n")
    with pytest.raises(InputError, match=r"holds 'b\.jsonl' and 'd\.csv': give a pattern"):
        prompts_of(tmp_path)


def test_a_pattern_reads_the_files_that_match_in_the_order_of_their_names(tmp_path, monkeypatch):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.jsonl", "a.jsonl", "deep/er/c.jsonl", "[d].jsonl"):
        lines(tmp_path / name, [{"prompt": name}])
    assert [p.text for p in prompts_of(tmp_path / "?.jsonl")] == ["a.jsonl", "b.jsonl"]
    assert [p.text for p in prompts_of(tmp_path / "deep/**/*.jsonl")] == ["deep/er/c.jsonl"]
    # A file of that very name is no pattern.
    assert [p.text for p in prompts_of(tmp_path / "[d].jsonl")] == ["[d].jsonl"]
    monkeypatch.chdir(tmp_path)
    assert len(prompts_of("**/*.jsonl")) == 4
    (tmp_path / "a.jsonl").write_text("[]")
    with pytest.raises(InputError, match=rf"{tmp_path}/a\.jsonl:1: expected"):
        prompts_of("?.jsonl")
    with pytest.raises(InputError, match=r"x\*: no file matches"):
        prompts_of("x*")


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
        (b'{"prompt": "a"}\n[1]\n', r"a\.jsonl:2: expected a JSON object, and it is a list"),
        (b'{"prompt": "a"}\n{"prompt": "\xff"}\n', r"a\.jsonl:2: invalid UTF-8 at byte 12"),
        (b'{"text": "a", "n": 1}\n', r"a\.jsonl:1: no prompt column .*; the columns are n, text"),
        (b'{"prompt": "a"}\n{"prompt": "  "}\n', r"a\.jsonl:2: empty prompt"),
        (b'{"prompt": null}\n', r"a\.jsonl:1: empty prompt"),
        (b'{"messages": []}\n', r"a\.jsonl:1: empty prompt"),
        (
            b'{"messages": [{"role": "x", "content": "a"}]}\n',
            r":1: message 1: role 'x' is none of",
        ),
        (b'{"messages": [{"role": "user"}]}\n', r"a\.jsonl:1: message 1: the content is missing"),
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
    (tmp_path / "a.txt").write_text("x\n")
    with pytest.raises(InputError, match=r"a\.txt: unknown kind of file \(known: \.jsonl"):
        prompts_of(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"holds no file of a known kind \(\.jsonl"):
        prompts_of(tmp_path)
    with pytest.raises(InputError, match=r"a/b/c: no such file or folder"):
        prompts_of("a/b/c")


def test_a_saved_dataset_is_read_without_decoding_what_no_prompt_needs(tmp_path):
    rows = {"prompt": ["x"], "image": [{"bytes": b"no image", "path": None}]}
    features = datasets.Features({"prompt": datasets.Value("string"), "image": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "d")
    assert [p.text for p in prompts_of(tmp_path / "d")] == ["x"]
    (data,) = (tmp_path / "d").glob("*.arrow")
    data.write_bytes(data.read_bytes()[:-900])
    with pytest.raises(InputError, match="cannot read"):
        prompts_of(tmp_path / "d")


def test_a_hub_that_does_not_answer_is_asked_once(tmp_path, monkeypatch, capfd):
    # A port that takes connections and never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("nabla_core.models.hub.PROBE_SECONDS", 0.2)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        for place in ("datasets.config", "huggingface_hub.constants"):
            monkeypatch.setattr(f"{place}.HF_HUB_OFFLINE", False)
        with pytest.raises(InputError, match="hub it cannot be loaded: ConnectionError") as refused:
            prompts_of("no-such-owner/no-such-set")
        assert "\n" not in str(refused.value)
        assert capfd.readouterr() == ("", "")
        assert not datasets.config.HF_HUB_OFFLINE


def test_a_dataset_that_is_nowhere():
    with pytest.raises(InputError, match="cannot read prompts from no-such-owner/no-such-set"):
        prompts_of("no-such-owner/no-such-set")
