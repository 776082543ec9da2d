"""Agreement with held-out scores, and the search of a guide in training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nabla_core import Prompt, Ranked
from nabla_core.errors import PromptError
from nabla_core.guide_training.evaluation import SearchResult, agreement, search, spearman
from tests.core.guide_training.training_data import Fixed, example
from tests.core.tiny import Family, greedy_search, prompts


def test_ranks_of_equal_values_are_shared():
    assert spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([5.0, 7.0, 9.0])) == pytest.approx(
        1
    )
    assert spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([9.0, 7.0, 5.0])) == pytest.approx(
        -1
    )
    tied = spearman(torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert tied == pytest.approx(0.9486833)
    assert spearman(torch.ones(3), torch.tensor([1.0, 2.0, 3.0])) == 0.0


def test_agreement_counts_positions_with_something_to_gain():
    found = agreement(
        Fixed([[0.5, 1.0, 0.0], [0.0, 0.2, -0.1], [0.0, 0.0, 3.0]]),
        [
            example("a", ([0.0, 2.0, 1.0], []), ([1.0, 0.0, 1.5], []))[0],
            example("b", ([0.0, -1.0, 0.5], []))[0],
        ],
        margin=0.4,
        size=64,
    )
    assert found.positions == 3
    assert found.top1 == pytest.approx(2 / 3)
    assert found.chance == 0.5
    assert found.within == pytest.approx((1 - 1 + 1) / 3)
    gains = [(0.5, 2.0), (-0.5, 1.0), (0.2, -1.0), (-0.1, 0.5), (0.0, -1.0), (3.0, 0.5)]
    slope = sum(s * t for s, t in gains) / sum(s * s for s, _ in gains)
    assert found.slope == pytest.approx(slope)


def test_guessing_finds_one_of_several_best_more_often():
    """Right and wrong by a verifier are all the scores there are."""
    found = agreement(
        Fixed([[0.0, 1.0, 2.0, 3.0]]),
        [example("a", ([0.0, 1.0, 1.0, 0.0], []))[0]],
        margin=0.4,
        size=64,
    )
    assert (found.top1, found.chance) == (0.0, pytest.approx(2 / 3))


def test_search_is_the_loop_on_prompts(plain: Family):
    engines = plain.engines()
    config = greedy_search(proposals="ranked", ranked=Ranked(beta=1.0))
    found = search(
        engines, prompts(4), config, lambda p, text: p.id == "p1", max_tokens=9, in_flight=8
    )
    assert (found.accuracy, found.failed) == (0.25, 0)
    unanswered = search(
        engines, prompts(4), config, lambda p, text: None, max_tokens=9, in_flight=8
    )
    assert unanswered == replace(found, accuracy=None)


def test_prompts_that_cannot_be_searched_are_counted(plain: Family):
    """One too long for the context must not end a training."""
    engines = plain.engines()
    config = greedy_search(proposals="ranked", ranked=Ranked(beta=1.0))
    long = Prompt.of("1+" * 200, id="long")

    def found(*asked: Prompt) -> SearchResult:
        return search(engines, asked, config, lambda p, text: None, max_tokens=9, in_flight=8)

    assert found(prompts(2)[0], long, prompts(2)[1]) == replace(found(*prompts(2)), failed=1)
    with pytest.raises(PromptError, match="none of 1 prompts can be searched; prompt long: "):
        found(long)
