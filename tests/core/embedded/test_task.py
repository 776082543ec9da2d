"""Digit chains: prompts, splits, solutions and grades."""

from __future__ import annotations

import pytest

from nabla_core.embedded.task import Grade, grade, prompts, solve

CHAIN, GOLD = "7+8*3-4+1-2*6+5-9", "5;5;1;2;0;0;5;6"


@pytest.mark.parametrize(
    ("text", "response"),
    [
        (CHAIN, GOLD),
        ("3+7*4-5+2-4*0*3-3", "0;0;5;7;3;0;0;7"),
        ("0-1-1-1-1-1-1-1-1", "9;8;7;6;5;4;3;2"),
    ],
)
def test_gold_is_left_to_right_modulo_ten(text: str, response: str):
    assert solve(text) == response


@pytest.mark.parametrize(
    "text", ["", "7+8", CHAIN + "+1", CHAIN.replace("8", "x"), CHAIN[:-1] + "="]
)
def test_what_is_no_chain_is_refused(text: str):
    with pytest.raises(ValueError, match="no chain of 8 steps"):
        solve(text)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (GOLD, Grade(answer=True, trace=True, predicted="6")),
        ("4;5;1;2;0;0;5;6", Grade(answer=True, trace=False, predicted="6")),
        ("5;5;1;2;0;0;5;7", Grade(answer=False, trace=False, predicted="7")),
        ("5;5;1;2;0;0;5", Grade(answer=False, trace=False, predicted=None)),
        ("6", Grade(answer=False, trace=False, predicted=None)),
        ("5;5;1;2;0;0;5;", Grade(answer=False, trace=False, predicted=None)),
        ("", Grade(answer=False, trace=False, predicted=None)),
    ],
)
def test_grades(response: str, expected: Grade):
    assert grade(CHAIN, response) == expected


def test_prompts_are_stable_and_continue_one_another():
    few, many = prompts(5, seed=0, split="test"), prompts(20, seed=0, split="test")
    assert many[:5] == few
    assert (few[0].id, few[0].text, few[0].answer) == ("digits/test/0/0", "3+7*4-5+2-4*0*3-3", "7")
    assert prompts(5, seed=1, split="test") != few


def test_splits_are_disjoint():
    texts = {
        split: {prompt.text for seed in range(3) for prompt in prompts(300, seed=seed, split=split)}
        for split in ("train", "validation", "test")
    }
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="train, validation, test"):
        prompts(1, seed=0, split="dev")  # type: ignore[arg-type]
