"""Labels and corruptions of training text."""

from __future__ import annotations

import torch

from nabla_core.embedded import tokenizer
from nabla_core.embedded.recipe import corpus
from tests.core.embedded.test_task import CHAIN, GOLD


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
