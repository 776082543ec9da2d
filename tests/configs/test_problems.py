"""The task of configs/wordproblems: its problems and the labels of steps."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from configs.wordproblems import problems
from nabla_core.types import Prompt
from pipeline.grading.graders import Verify, grader

ROOT = Path(__file__).parents[2]
needs_generators = pytest.mark.skipif(
    find_spec("reasoning_gym") is None,
    reason="the problems need reasoning-gym: make reasoning-gym installs it",
)
SUM = {"answer": "9 - 4 = 5, 5 + 8 = 13, 13 - 6 = 7"}
STORY = {
    "answer": "His sister has 17 - 9 = 8 toys.\nTogether, they have 17 + 8 = 25 toys.\n#### 25"
}


def test_a_gold_chain_of_a_sum_goes_from_left_to_right():
    assert problems.chain_of("12 + 34 - 50") == "12 + 34 = 46, 46 - 50 = -4"


@pytest.mark.parametrize(
    ("record", "response", "right", "complete"),
    [
        (SUM, SUM["answer"], [True, True, True], True),
        (SUM, "9-4=5,5+8=13,13-6=7\n", [True, True, True], True),
        (SUM, "9 - 4 = 5, 5 + 8 = 12, 12 - 6 = 6", [True, False, False], True),
        # Wrong twice, and the last step as it should be: not all before it are right.
        (SUM, "9 - 4 = 4, 4 + 8 = 13, 13 - 6 = 7", [False, False, False], True),
        (SUM, "9 - 4 = -5, 5 + 8 = 13", [False, False], False),
        (SUM, "9 - 4 = 5, 5 + 8 = 13", [True, True], False),
        (SUM, SUM["answer"] + ", 7 + 1 = 8", [True, True, True, False], False),
        (SUM, "", [], False),
        (STORY, STORY["answer"], [True, True, True], True),
        (STORY, STORY["answer"].replace("sister", "brother"), [True, True, True], True),
        (STORY, STORY["answer"].replace("25", "26"), [True, False, False], True),
    ],
)
def test_steps_are_right_until_the_first_that_differs_from_the_gold_chain(
    record, response, right, complete
):
    steps, all_steps = problems.grade_steps(record, response)
    assert [verdict for _, verdict in steps] == right
    assert all_steps is complete
    assert [end for end, _ in steps] == sorted({end for end, _ in steps})
    assert all(end <= len(response) for end, _ in steps)


def test_the_end_of_a_step_is_behind_its_last_character():
    (first, _), (second, _), (third, _) = problems.grade_steps(SUM, SUM["answer"])[0]
    assert SUM["answer"][:first] == "9 - 4 = 5"
    assert SUM["answer"][:second] == "9 - 4 = 5, 5 + 8 = 13"
    assert third == len(SUM["answer"])


@needs_generators
def test_the_files_are_always_the_same_and_share_no_question(tmp_path):
    script = ROOT / "configs" / "wordproblems" / "problems.py"
    subprocess.run([sys.executable, script, tmp_path], check=True)
    questions = {}
    for name, count in problems.FILES.items():
        rows = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        assert rows == problems.problems(name)
        questions[name] = {row["prompt"] for row in rows}
        assert len(questions[name]) == len({row["id"] for row in rows}) == len(rows) == count
        stories = sum("####" in row["answer"] for row in rows)
        assert 0.25 < stories / count < 0.55
    assert len(set.union(*questions.values())) == sum(problems.FILES.values())


@needs_generators
def test_gold_chains_are_right_in_every_step_and_a_changed_answer_is_wrong():
    grade = grader(Verify("last_number"))
    for row in problems.problems("validation"):
        prompt = Prompt.of(row["prompt"], id=row["id"], answer=row["answer"])
        chain = row["completion"]
        steps, complete = problems.grade_steps(row, chain)
        assert complete, row
        assert all(right for _, right in steps), row
        assert grade(prompt, chain).correct is True, row
        for wrong in (chain + "1", chain[: chain.rindex(" ")]):
            steps, complete = problems.grade_steps(row, wrong)
            assert not (complete and all(right for _, right in steps)), row
        assert grade(prompt, chain + "1").correct is False, row
        if "####" not in chain:
            # The generator evaluates its own expression; the chain must end at the same number.
            assert eval(row["prompt"].removesuffix(" =")) == int(chain.split()[-1])
