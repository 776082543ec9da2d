"""Graded answers from run folders, and what is refused."""

from __future__ import annotations

from collections import Counter

import pytest

from nabla_core.embedded import task
from nabla_core.embedded.tokenizer import decode, encode
from pipeline.errors import InputError
from pipeline.grading.graders import Verify, grader
from pipeline.inputs.prompts import content_key
from pipeline.train_judge.answers import read_answers
from tests.pipeline.export.runs import FINGERPRINT, write_run
from tests.pipeline.train_judge.graded import runs, sample_rows, search_row, train_prompts, wrong


def read(*paths, **changes):
    options = {
        "key": "data.runs",
        "fingerprint": FINGERPRINT,
        "decode": decode,
        "grade": grader(Verify("embedded")),
        "most_candidates": 4,
    }
    return read_answers(list(map(str, paths)), **options | changes)


def test_all_responses_of_a_search_are_graded_once(tmp_path):
    (prompt,) = train_prompts(1)
    found = read(write_run(tmp_path / "run", [search_row(prompt)])).found
    assert [(a.kind, a.text, a.right, a.reward) for a in found] == [
        ("final", wrong(prompt, 3), False, 3.0),
        ("first", wrong(prompt), False, -1.0),
        ("candidate", wrong(prompt, 2), False, -2.0),
    ]
    assert {a.key for a in found} == {content_key(prompt)}
    none = read(tmp_path / "run", most_candidates=0).found
    assert [a.kind for a in none] == ["final", "first"]


def test_a_candidate_gets_the_verdict_of_the_verifier_and_the_highest_come_first(tmp_path):
    (prompt,) = train_prompts(1)
    row, right = search_row(prompt), task.solve(prompt.text)
    # The search rejected the right answer: a digit and the stop token.
    row["revisions"][0]["tail_token_ids"][0] = encode(right[-1])[0]
    found = read(write_run(tmp_path / "run", [row]), most_candidates=1).found
    assert [a.kind for a in found] == ["final", "first", "candidate"]
    assert (found[-1].kind, found[-1].text, found[-1].right) == ("candidate", right, True)


def test_folders_are_described_and_what_is_left_out_is_counted(tmp_path):
    prompts = train_prompts(3)
    samples, searches = runs(tmp_path, prompts)
    other = write_run(tmp_path / "other", sample_rows(train_prompts(1, 3)))
    answers = read(samples, searches, other, exclude={content_key(prompts[0])})
    assert [(s["folder"], s["answers"], s["right"]) for s in answers.sources] == [
        ("samples", 4, 2),
        ("searches", 6, 0),
        ("other", 2, 1),
    ]
    assert answers.left_out == Counter({"rows of validation prompts": 3})
    assert answers.excluded == {content_key(prompts[0])}
    assert str(tmp_path) not in str(answers.sources)
    assert read(samples).digest != read(searches).digest
    assert len(read(samples, limit=2).found) == 2


def test_answers_that_no_verifier_read_are_graded_here(tmp_path):
    prompts = train_prompts(2)
    rows = [{**row, "correct": None, "base_correct": None} for row in sample_rows(prompts)]
    found = read(write_run(tmp_path / "run", rows)).found
    assert [a.right for a in found] == [True, False, True, False]


def test_runs_without_answers_of_other_tokenizers_and_unfinished_ones_are_refused(tmp_path):
    prompts = train_prompts(2)
    ungraded = [{**row, "correct": None, "base_correct": None} for row in sample_rows(prompts)]
    none = write_run(tmp_path / "none", ungraded)
    with pytest.raises(InputError, match=r"none holds no graded answer \(4 rows"):
        read(none, grade=grader(Verify("none")))
    with pytest.raises(InputError, match=r"row 1 \(prompt .*: its tokens are of the tokenizer"):
        read(none, fingerprint="other")
    part = write_run(tmp_path / "part", sample_rows(prompts), finished=False)
    with pytest.raises(InputError, match="part is not complete"):
        read(part)
    assert len(read(part, allow_partial=True).found) == 4
    with pytest.raises(InputError, match="no run folder"):
        read(tmp_path)
