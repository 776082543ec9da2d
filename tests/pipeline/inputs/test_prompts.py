"""Prompts in order, their ids and fingerprints."""

import pytest

from pipeline.errors import InputError
from pipeline.inputs.prompts import Prompts, fingerprint, index, read
from tests.pipeline.inputs.sources import lines, prompts_of


def test_the_embedded_task_gives_as_many_as_asked_for():
    assert [p.id for p in prompts_of("embedded", limit=3)] == [
        f"digits/test/0/{n}" for n in range(3)
    ]
    assert prompts_of("embedded", limit=1)[0].answer in "0123456789"


def test_an_unknown_split_of_the_embedded_task():
    with pytest.raises(InputError, match=r"prompts\.split: split 'dev' is none of train"):
        prompts_of("embedded", split="dev")


def test_ids_come_from_content_and_repetition(tmp_path):
    before = prompts_of(lines(tmp_path / "a.jsonl", [{"prompt": t} for t in "aab"]))
    after = prompts_of(lines(tmp_path / "b.jsonl", [{"prompt": t} for t in "caabd"]))
    assert len({p.id for p in before}) == 3
    assert [p.id for p in before] == [p.id for p in after[1:4]]


def test_limit_and_blank_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\n\n{"prompt": "b"}\r\n{"prompt": "c"}')
    assert [p.text for p in prompts_of(path, limit=2)] == ["a", "b"]
    everything = prompts_of(path)
    assert prompts_of(path, skip=1) == everything[1:]
    assert prompts_of(path, skip=1, limit=1) == everything[1:2]
    with pytest.raises(
        InputError,
        match=r"a\.jsonl has 3 prompts, and prompts\.skip=9 leaves none",
    ):
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


def test_ids_that_occur_twice_are_refused_and_three_are_named(tmp_path):
    rows = [{"prompt": "x", "id": i} for i in "aabbccddde"]
    items = read(Prompts(path=lines(tmp_path / "a.jsonl", rows)))
    with pytest.raises(InputError, match=r"4 ids occur more than once: 'a', 'b', 'c'$"):
        index(items, "a.jsonl")


@pytest.mark.parametrize("key", ["limit", "skip"])
def test_a_limit_that_nobody_can_mean_is_refused(tmp_path, key):
    path = lines(tmp_path / "a.jsonl", [{"prompt": "a"}, {"prompt": "b"}])
    with pytest.raises(ValueError, match=rf"prompts\.{key} must be at most 4,294,967,294"):
        Prompts(path=path, **{key: 2**63 - 1})
    with pytest.raises(ValueError, match="the embedded task, which gives at most 10,000,000"):
        Prompts(**{key: 10_000_001})
    most = 2**32 - 2
    assert [p.text for p in prompts_of(path, limit=most, skip=1)] == ["b"]
    with pytest.raises(InputError, match=r"has 2 prompts, .*skip=4294967294 leaves none"):
        prompts_of(path, limit=most, skip=most)


def test_allowed_special_tokens_change_the_fingerprint_and_not_the_id(
    tmp_path,
):
    path = lines(tmp_path / "a.jsonl", [{"prompt": "<|im_end|>"}])
    (plain,), (allowed,) = prompts_of(path), prompts_of(path, allow_special_tokens=True)
    assert (plain.allow_special_tokens, allowed.allow_special_tokens) == (False, True)
    assert plain.id == allowed.id
    assert fingerprint(plain) != fingerprint(allowed)
