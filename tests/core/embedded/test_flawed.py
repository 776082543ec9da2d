"""Text with flawed arithmetic errs where it should."""

from __future__ import annotations

import random

import torch

from nabla_core.embedded.recipe import corpus
from nabla_core.embedded.recipe.flawed import FlawedArithmetic


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
