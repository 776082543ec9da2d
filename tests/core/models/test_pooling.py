"""Reward models read their reward where transformers does, at the last token that is not pad."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nabla_core.errors import HeadError
from nabla_core.models.pooling import pool_index
from nabla_core.models.readers import Reader, Task
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import Context
from tests.core.families.tiny_models import EOS, PAD, SIZE, as_reward_model, classifier

CONTEXT = Context("", (), ((), ()), ((), ()))
# Prompt, response and what a template puts behind it: texts that end in a word, in the
# end-of-text token, in pad, in several of them, and that are nothing else.
TEXTS = [
    ((5, 6, 7), (8, 9, EOS), ()),
    ((5,), (8, 9, 4, 3), (EOS, 3)),
    ((5, EOS, 6), (8,), (EOS,)),
    ((9, 9), (EOS,), ()),
    ((6, 7, 5, 4), (3, 8, EOS, EOS), (EOS, PAD)),
    ((3,), (4, PAD), ()),
    ((4, 4), (7, 7, 7, 7, 7, 7), (PAD,)),
    ((EOS,), (EOS,), (EOS,)),
]


@pytest.mark.parametrize(
    ("tokens", "pad", "index"),
    [
        ((5, 6, 7), 0, 2),
        ((5, 6, 0), 0, 1),
        ((5, 0, 7, 0, 0), 0, 2),
        ((5, 6, 0), None, 2),
        ((0, 0), 0, 0),
    ],
)
def test_the_reward_is_read_at_the_last_token_that_is_not_pad(
    tokens: tuple[int, ...], pad: int | None, index: int
):
    assert pool_index(tokens, pad) == index


def reads(reader: Reader, cut: int, caches: list[Any]) -> list[Any]:
    """All texts, from position `cut` of each response on, in one batch."""
    tasks = [
        Task(CONTEXT, y, min(cut, len(y)), cache)
        for (_, y, _), cache in zip(TEXTS, caches, strict=True)
    ]
    frames = [(before, after) for before, _, after in TEXTS]
    return reader.read(tasks, frames, gradient=False, return_cache=True)


@pytest.mark.parametrize("pad", [EOS, PAD, None])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_rewards_are_those_of_the_models_own_forward_pass(kind: str, pad: int | None):
    model = classifier(kind, pad_token_id=pad)
    ids = [[*before, *y, *after] for before, y, after in TEXTS]
    with torch.no_grad():
        expected = [float(model(input_ids=torch.tensor([row])).logits[0, 0]) for row in ids]
        if pad is not None:
            width = max(map(len, ids))
            rows = torch.tensor([[*row, *[pad] * (width - len(row))] for row in ids])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
            padded = model(input_ids=rows, attention_mask=mask).logits[:, 0].tolist()
            assert padded == pytest.approx(expected, abs=1e-5)
    vocabulary = VocabularyMap(torch.arange(SIZE), 1.0)
    reader = Reader(as_reward_model(model), vocabulary, frozenset({EOS}))
    first = reads(reader, 0, [None] * len(TEXTS))
    assert [r.reward for r in first] == pytest.approx(expected, abs=1e-5)
    # Behind a cache that ends after the token that is read.
    again = reads(reader, 9, [r.cache for r in first])
    assert [r.reward for r in again] == pytest.approx(expected, abs=1e-5)
    for n, (before, y, after) in enumerate(TEXTS):
        task = Task(CONTEXT, y)
        (alone,) = reader.read([task], [(before, after)], gradient=True, return_cache=False)
        assert alone.reward == pytest.approx(expected[n], abs=1e-5)
        # Tokens behind the one that is read have no influence; the others have.
        end = pool_index(ids[n], pad) - len(before) + 1
        moved = alone.input_gradient.norm(dim=-1) > 0
        assert moved.tolist() == [i < end for i in range(len(y))]


def test_a_pad_token_that_ends_texts_moves_rewards_by_more_than_rounding():
    """What reading at the last token would give."""
    model = classifier("llama", pad_token_id=EOS)
    with torch.no_grad():
        own = model(input_ids=torch.tensor([[5, 6, 7, EOS]])).logits.item()
        at_end = model(inputs_embeds=model.model.embed_tokens(torch.tensor([[5, 6, 7, EOS]])))
    assert abs(own - at_end.logits.item()) > 0.1


@pytest.mark.parametrize("place", ["first", "mean", "first pad"])
def test_a_classifier_that_reads_elsewhere_is_refused(place: str):
    model = classifier("llama")

    def forward(input_ids: torch.Tensor, **masks: Any) -> Any:
        hidden = model.model(input_ids=input_ids, **masks).last_hidden_state
        scores = model.score(hidden)
        pads = input_ids == PAD
        # The token before the first pad: transformers' rule of old.
        before = torch.where(pads.any(1), pads.int().argmax(1) - 1, -1)
        pooled = {
            "first": scores[:, 0],
            "mean": scores.mean(1),
            "first pad": scores[torch.arange(len(scores)), before],
        }[place]
        return type("Output", (), {"logits": pooled})

    model.forward = forward
    with pytest.raises(HeadError, match=r"at the last token that is not pad \(off by"):
        as_reward_model(model)
