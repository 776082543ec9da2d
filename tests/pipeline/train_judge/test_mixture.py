"""Held-out prompts, hard negatives, weights and pairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from nabla_core import Prompt
from pipeline.errors import InputError
from pipeline.inputs.prompts import content_key
from pipeline.train_judge.answers import GradedAnswer
from pipeline.train_judge.config import Hard
from pipeline.train_judge.mixture import Pair, draw, hard_negatives, pairs, shares, split


def answer(text, right, reward=0.0, *, judge="j", source=0):
    prompt = Prompt.of(text, id=text)
    return GradedAnswer(
        prompt=prompt, key=content_key(prompt), tokens=(1,), text="", right=right, reward=reward,
        judge=judge, source=source, kind="final",
    )  # fmt: skip


def test_a_prompt_is_in_one_part_whatever_its_id_and_both_need_right_and_wrong_answers():
    answers = [answer(f"q{n}", n % 2 == 0) for n in range(400)]
    again = [replace(a, prompt=replace(a.prompt, id="other")) for a in answers]
    train, held_out = split([*answers, *again], 0.25)
    assert {a.key for a in train}.isdisjoint(a.key for a in held_out)
    assert 60 < len(held_out) / 2 < 140
    assert len(train) + len(held_out) == 800
    with pytest.raises(InputError, match="0 of them right: a judge needs right and wrong ones"):
        split([replace(a, right=False) for a in answers], 0.25)
    with pytest.raises(InputError, match="answers held out"):
        split(answers[:2], 1e-9)


def test_wrong_answers_above_the_quantile_of_right_ones_of_their_judge_are_hard():
    rights = [answer("q", True, reward) for reward in (0.0, 1.0, 2.0, 3.0)]
    wrongs = [answer("q", False, reward) for reward in (-1.0, 1.0, 5.0)]
    other = [answer("q", False, 9.0, judge="other"), answer("q", False, None)]
    found = hard_negatives([*rights, *wrongs, *other], 0.25)
    assert found == [False] * 4 + [False, True, True] + [False, False]
    assert hard_negatives(wrongs, 0.25) == [False] * 3


def test_shares_weigh_folders_and_hard_negatives_and_are_limited():
    sources, hard = [0, 0, 0, 1, 1, 1, 1], [False, False, True, False, True, True, True]
    free = Hard(weight=1.0, limit=None)
    assert shares(sources, hard, (), free) == pytest.approx(
        {(0, False): 2 / 7, (0, True): 1 / 7, (1, False): 1 / 7, (1, True): 3 / 7}
    )
    assert shares(sources, hard, (3.0, 1.0), free) == pytest.approx(
        {(0, False): 0.5, (0, True): 0.25, (1, False): 1 / 16, (1, True): 3 / 16}
    )
    twice = shares(sources, hard, (3.0, 1.0), Hard(weight=2.0, limit=None))
    assert twice[0, True] == pytest.approx(0.375)
    limited = shares(sources, hard, (), Hard(weight=1.0, limit=0.1))
    assert limited[0, True] + limited[1, True] == pytest.approx(0.1)
    assert sum(limited.values()) == pytest.approx(1)
    assert limited[0, False] / limited[1, False] == pytest.approx(2)
    assert shares([0, 0], [True, True], (), Hard(limit=0.1)) == {(0, True): 1.0}
    assert (0, True) not in shares(sources, hard, (), Hard(weight=0.0))
    with pytest.raises(InputError, match="leave no answer"):
        shares([0], [True], (), Hard(weight=0.0))


def test_items_are_drawn_with_their_shares_and_come_in_turn():
    sources, hard = [0] * 5 + [1] * 5, [False] * 10
    order = draw(sources, hard, {(0, False): 0.8, (1, False): 0.2}, 1000, seed=0)
    assert order == draw(sources, hard, {(0, False): 0.8, (1, False): 0.2}, 1000, seed=0)
    assert order != draw(sources, hard, {(0, False): 0.8, (1, False): 0.2}, 1000, seed=1)
    counts = Counter(order)
    assert 750 < sum(counts[n] for n in range(5)) < 850
    assert max(counts[n] for n in range(5)) - min(counts[n] for n in range(5)) <= 1


def test_pairs_are_of_one_prompt_and_hard_negatives_come_first():
    answers = [
        answer("a", True), answer("a", False), answer("a", False), answer("a", False),
        answer("a", True), answer("b", False), answer("c", True),
    ]  # fmt: skip
    hard = [False, False, False, True, False, False, False]
    assert pairs(answers, hard, 2) == [Pair(0, 3), Pair(4, 1)]
    assert pairs(answers, hard, 8) == [Pair(0, 3), Pair(4, 1), Pair(0, 2)]
    with pytest.raises(InputError, match="no prompt has a right and a wrong answer"):
        pairs(answers[5:], hard[5:], 8)
