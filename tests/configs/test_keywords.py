"""The task of configs/smollm2: its prompts and its verifier."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from configs.smollm2 import keywords

ROOT = Path(__file__).parents[2]
RECORD = {"id": "p", "answer": "church, tiny, wolf"}


@pytest.mark.parametrize(
    "response",
    [
        "The tiny wolf sleeps behind the church.",
        " A wolf's tiny paws left marks at the church!\n",
        "In churches, as in tiny huts, wolves are afraid of people.".replace("wolves", "wolfs"),
        'The tiny wolf said, "Who rang the bell of the church?"',
    ],
)
def test_a_sentence_with_all_words_is_right(response):
    assert keywords.grade(RECORD, response) is True


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ("The tiny wolf sleeps behind the wall.", "a word is missing"),
        ("The tinier wolf sleeps behind the church.", "another word than the one given"),
        ("Look: church, tiny, wolf and some more.", "a colon"),
        ("A church, a tiny, and a wolf.", "a list"),
        ("Tiny church wolf or the tiny church and wolf.", "a list"),
        ("The tiny wolf sleeps. The church is old.", "two sentences"),
        ("The tiny wolf sleeps behind the church", "no end"),
        ("the tiny wolf sleeps behind the church.", "no capital letter"),
        ("Tiny wolf at church.", "too short"),
        ("The wolf " + "really " * 22 + "likes the tiny church.", "too long"),
        ("The tiny wolf sees the tiny wolf sees the church.", "three words come twice"),
        ("The tiny tiny wolf sleeps behind the church.", "a word twice in a row"),
        ("The tiny wolf is wolf and wolf at church today.", "a word three times"),
        ("A tiny, old, gray, mean wolf sleeps behind the church.", "three commas"),
        ("The tiny wolf sleeps behind church 7 today.", "a digit"),
        ("", "nothing"),
    ],
)
def test_what_is_no_such_sentence_is_wrong(response, why):
    assert keywords.grade(RECORD, response) is False, why


def test_the_files_are_always_the_same_and_share_no_word(tmp_path):
    script = ROOT / "configs" / "smollm2" / "keywords.py"
    subprocess.run([sys.executable, script, tmp_path], check=True)
    words = {}
    for name, count in keywords.FILES.items():
        rows = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        assert rows == keywords.prompts(name)
        assert len({row["prompt"] for row in rows}) == len(rows) == count
        words[name] = {word for row in rows for word in row["answer"].split(", ")}
        assert all(row["prompt"].endswith(f" {row['answer']}.") for row in rows)
    assert not words["train"] & words["test"]
    assert not words["train"] & words["validation"]
    assert not words["validation"] & words["test"]
