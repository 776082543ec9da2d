"""Records as examples: what is dropped and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from nabla_core.errors import ContextError, PromptError, VocabularyError
from nabla_core.guide_training.examples import Batch, Record
from nabla_core.guide_training.trainees import guide_encoder
from nabla_core.methods.counterfactuals import Place
from nabla_core.models.loading import load_language_model
from tests.core.guide_training.training_data import CPU, example, records, trainee_of
from tests.core.tiny import Family


def test_counterfactuals_that_cannot_be_learned_from_are_named(plain: Family, grouped: Family):
    trainee, tokenizer, lm = trainee_of(plain, "head")
    encoder = guide_encoder("head", trainee, tokenizer, lm, 0.9)
    good = records(plain.engines())[0]
    place = good.places[0]

    def with_place(**changes: Any) -> Record:
        return replace(good, places=(replace(place, **changes),))

    single = Place(place.position, 0.5, place.tokens[:1], (0.0,), (1.0,))
    with pytest.raises(PromptError, match=r"p0: 1 token was tried at position \d+"):
        encoder.encode(replace(good, places=(single,)))
    with pytest.raises(PromptError, match=r"p0: a score at position \d+ is not finite"):
        encoder.encode(with_place(scores=(math.nan, *place.scores[1:])))
    with pytest.raises(ContextError, match=r"p0: .* whose context is 5"):
        replace(encoder, context=5).encode(good)
    other = load_language_model(str(grouped.lm), revision=None, device=CPU, dtype=torch.float32)
    with pytest.raises(VocabularyError):
        guide_encoder("head", trainee, tokenizer, other, 0.9)
    # Unlikely alternatives are left out, and positions of which nothing remains.
    assert encoder.encode(good, min_log_probability=1.0).positions == ()
    unlikely = with_place(log_probabilities=(-9.0, -1.0, -9.0, -1.0))
    assert len(encoder.encode(unlikely, min_log_probability=-2.0).positions[0].tokens) == 3
    # So is a position whose own token the guide does not know: gains would be over another.
    ids = encoder.vocabulary.ids.clone()
    ids[place.tokens[1]] = -1
    partial = replace(encoder, vocabulary=replace(encoder.vocabulary, ids=ids))
    assert len(partial._scored_position(good, place, 0, -math.inf).tokens) == len(place.tokens) - 1
    ids[place.tokens[0]] = -1
    assert partial._scored_position(good, place, 0, -math.inf).tokens == ()


def test_a_batch_pads_ids_and_candidates():
    first = example("a", ([0.0, 2.0], []), ([1.0, 0.0, 1.5], []))[0]
    second = replace(example("b", ([0.5, -1.0], []))[0], ids=(7, 8, 9), score=2.0)
    batch = Batch.of([first, second], CPU)
    assert batch.ids.tolist() == [list(range(8)), [7, 8, 9, 0, 0, 0, 0, 0]]
    assert (batch.last.tolist(), batch.score.tolist()) == ([7, 2], [0.0, 2.0])
    assert (batch.row.tolist(), batch.index.tolist()) == ([0, 0, 1], [1, 2, 1])
    assert batch.scores.tolist() == [[0.0, 2.0, 0.0], [1.0, 0.0, 1.5], [0.5, -1.0, 0.0]]
    assert batch.mask.tolist() == [[True, True, False], [True] * 3, [True, True, False]]
