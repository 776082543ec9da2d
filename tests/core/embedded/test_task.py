from __future__ import annotations

import random

import pytest
import torch

from nabla_core.embedded import tokenizer
from nabla_core.embedded.recipe import corpus
from nabla_core.embedded.recipe.flawed import FlawedArithmetic
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


def test_tokenizer_round_trip():
    fast = tokenizer.build()
    ids = fast(CHAIN).input_ids
    assert ids == tokenizer.encode(CHAIN)
    assert len(ids) == len(CHAIN)
    assert fast.decode(ids) == tokenizer.decode(ids) == CHAIN
    assert fast.decode([*ids, fast.eos_token_id], skip_special_tokens=True) == CHAIN
    assert len(fast) == tokenizer.VOCABULARY == 24
    assert len({fast.pad_token_id, fast.eos_token_id, fast.unk_token_id}) == 3
    assert fast.bos_token_id is None
    assert fast.chat_template is None


def test_labels_of_a_response_with_one_local_error():
    asked = corpus.encode_prompts([CHAIN] * 2)
    given = corpus.encode_responses([GOLD, "5;5;4;5;3;8;3;4"])
    assert corpus.locally_right(asked, given).tolist() == [
        [True] * 8,
        [True, True, False, True, True, True, True, True],
    ]
    assert corpus.sound_fraction(asked, given).tolist() == [1.0, 0.25]
    assert corpus.right_digits(asked, given)[1].tolist() == [5, 5, 1, 5, 3, 8, 3, 4]


def test_corruption_changes_one_digit_of_the_chosen_rows():
    gold = corpus.encode_gold([CHAIN] * 50)
    chosen = torch.arange(50) < 20
    changed = corpus.corrupt(gold, chosen, torch.Generator().manual_seed(0)) != gold
    assert changed.sum(1).tolist() == [1] * 20 + [0] * 30
    assert not changed[:, 1::2].any()


def test_truncation_drops_the_stop_token():
    gold = corpus.encode_gold([CHAIN] * 20)
    chosen = torch.arange(20) < 10
    cut = corpus.truncate(gold, chosen, torch.Generator().manual_seed(0))
    assert (cut == tokenizer.STOP_ID).any(1).tolist() == [False] * 10 + [True] * 10
    assert (cut[:, 0] == gold[:, 0]).all()


def test_flawed_responses_err_at_the_same_facts_only():
    flawed, rng = FlawedArithmetic(random.Random(0)), random.Random(1)
    texts = corpus.train_chains(random.Random(2), 2000, skewed=False)
    asked = corpus.encode_prompts(texts)
    given = corpus.encode_responses([flawed.response(text, rng) for text in texts])
    wrong = ~corpus.locally_right(asked, given)
    assert 0.05 < wrong.float().mean().item() < 0.2
    values = torch.cat((asked[:, :1], given[:, :-2:2]), 1)
    facts = set(zip(asked[:, 1::2][wrong], values[wrong], asked[:, 2::2][wrong], strict=True))
    assert len({tuple(int(part) for part in fact) for fact in facts}) <= 120
